"""The analysts' door: a queue of cases, a page for each, and buttons through which labels flow back."""
