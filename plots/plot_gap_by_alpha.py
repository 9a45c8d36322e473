from fedspec.figures.script import main

raise SystemExit(main("gap_by_alpha"))
