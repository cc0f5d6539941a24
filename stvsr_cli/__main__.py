"""`python -m stvsr_cli`."""

from stvsr_cli.cli import main

if __name__ == "__main__":
    main()
