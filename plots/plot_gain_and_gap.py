from fedspec.figures.script import main

raise SystemExit(main("gain_and_gap"))
