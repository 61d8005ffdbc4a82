//go:build race

package costtest

// Slowness is how many times longer a test may take than without the race detector.
const Slowness = 10
