"""The command line: one file per subcommand, each parses, calls the core and shows what it returned."""
