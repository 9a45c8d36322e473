from fedspec.figures.script import main

raise SystemExit(main("accuracy_by_bytes"))
