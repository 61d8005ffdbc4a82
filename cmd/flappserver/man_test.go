package main

import (
	"flag"
	"syscall"
	"testing"

	"github.com/flogtool/flogtool/cmd/internal/clitest"
)

var update = flag.Bool("update", false, "rewrite docs/man/flappserver*.1")

// The manual pages are those that the commands generate. That of create shows the umask.
func TestManPages(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o22))
	clitest.ManPages(t, newRootCommand(), *update)
}
