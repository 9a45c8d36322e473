from fedspec.figures.script import main

raise SystemExit(main("rank"))
