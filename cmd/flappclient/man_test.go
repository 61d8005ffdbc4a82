package main

import (
	"flag"
	"testing"

	"github.com/flogtool/flogtool/cmd/internal/clitest"
)

var update = flag.Bool("update", false, "rewrite docs/man/flappclient*.1")

// The manual pages are those that the commands generate.
func TestManPages(t *testing.T) { clitest.ManPages(t, newRootCommand(), *update) }
