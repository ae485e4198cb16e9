"""Everything that commands show: every sentence, table and document is made here, from the facts that the core returns."""
