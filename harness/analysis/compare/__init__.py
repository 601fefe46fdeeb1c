"""Speeds set side by side: arms of one record, two runs, two revisions, the steps of an ablation."""
