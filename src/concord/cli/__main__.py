from concord.cli.commands import main

main()
