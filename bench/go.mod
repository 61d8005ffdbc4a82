// The peers we measure against live here and stay out of the project's go.mod.
module github.com/flogtool/flogtool/bench

go 1.26.0

require github.com/flogtool/flogtool v0.0.0

replace github.com/flogtool/flogtool => ../
