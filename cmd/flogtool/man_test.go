package main

import (
	"testing"

	"github.com/spf13/cobra"

	"github.com/flogtool/flogtool/cmd/internal/clitest"
)

// The manual pages in docs/man are those of the commands.
func TestManPages(t *testing.T) { clitest.ManPages(t, newRootCommand(), *update) }

// Every command has a short help and examples.
func TestHelp(t *testing.T) {
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Short == "" && cmd.HasParent() {
			t.Errorf("%s has no short help", cmd.CommandPath())
		}
		if cmd.Example == "" && cmd.HasParent() {
			t.Errorf("%s has no examples", cmd.CommandPath())
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(newRootCommand())
}
