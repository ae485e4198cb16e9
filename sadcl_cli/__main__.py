"""`python -m sadcl_cli`, which is also what `torchrun -m` starts."""

from sadcl_cli.app import main

main()
