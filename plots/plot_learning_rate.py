from fedspec.figures.script import main

raise SystemExit(main("learning_rate"))
