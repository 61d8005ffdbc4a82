// Package clitest helps the tests of commands: manual pages and pseudo-terminals. Only tests
// import it.
package clitest

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// manDir is the directory of the manual pages, which are generated from the help texts.
const manDir = "../../docs/man"

// ManPages fails the test unless docs/man has exactly the manual pages that the commands
// below root generate. If update is set it writes them.
func ManPages(t *testing.T, root *cobra.Command, update bool) {
	t.Helper()
	root.DisableAutoGenTag = true
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	pages := make(map[string][]byte)
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Name() == "help" || cmd.Hidden {
			return
		}
		var page bytes.Buffer
		header := &doc.GenManHeader{Section: "1", Source: "flogtool", Manual: "flogtool"}
		if err := doc.GenMan(cmd, header, &page); err != nil {
			t.Fatal(err)
		}
		// The date of the build must not be in the page.
		text := strings.Replace(page.String(), header.Date.Format("Jan 2006"), "", 1)
		pages[strings.ReplaceAll(cmd.CommandPath(), " ", "-")+".1"] = []byte(text)
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(root)
	if update {
		if err := os.MkdirAll(manDir, 0o755); err != nil {
			t.Fatal(err)
		}
		old, _ := filepath.Glob(filepath.Join(manDir, root.Name()+"*.1"))
		for _, path := range old {
			os.Remove(path)
		}
	}
	for name, page := range pages {
		path := filepath.Join(manDir, name)
		if update {
			if err := os.WriteFile(path, page, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if have, err := os.ReadFile(path); err != nil || !bytes.Equal(have, page) {
			t.Errorf("docs/man/%s differs from the help text (%v); -update rewrites it", name, err)
		}
	}
	if have, _ := filepath.Glob(filepath.Join(manDir, root.Name()+"*.1")); len(have) != len(pages) {
		t.Errorf("%d pages in docs/man, want %d", len(have), len(pages))
	}
}
