package main

import (
	"flag"
	"testing"

	"github.com/flogtool/flogtool/cmd/internal/clitest"
)

var update = flag.Bool("update", false, "rewrite docs/man/git-remote-pb.1")

// The manual page is the one that the command generates.
func TestManPage(t *testing.T) { clitest.ManPages(t, newCommand(), *update) }
