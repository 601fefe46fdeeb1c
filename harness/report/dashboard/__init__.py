"""The results of many runs as a static site: pages that open from disk, each whole without a server or a network."""
