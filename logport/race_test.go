//go:build race

package logport_test

const raceDetector = true
