"""The page written beside the numbers of an evaluation, to look at and to act on."""
