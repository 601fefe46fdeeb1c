"""One decision from all evidence on record: may this optimization ship?"""
