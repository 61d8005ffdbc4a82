package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// manDir is where the manual pages are kept that the commands' help makes.
const manDir = "../../docs/man"

// The manual pages are those of the commands as they are.
func TestManPages(t *testing.T) {
	root := newRootCommand()
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
		// The date is that of the build; a page has none.
		text := strings.Replace(page.String(), header.Date.Format("Jan 2006"), "", 1)
		pages[strings.ReplaceAll(cmd.CommandPath(), " ", "-")+".1"] = []byte(text)
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(root)
	if *update {
		if err := os.MkdirAll(manDir, 0o755); err != nil {
			t.Fatal(err)
		}
		old, _ := filepath.Glob(filepath.Join(manDir, "flogtool*.1"))
		for _, path := range old {
			os.Remove(path)
		}
	}
	for name, page := range pages {
		path := filepath.Join(manDir, name)
		if *update {
			if err := os.WriteFile(path, page, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if have, err := os.ReadFile(path); err != nil || !bytes.Equal(have, page) {
			t.Errorf("docs/man/%s is not what the help says (%v); -update rewrites it", name, err)
		}
	}
	if have, _ := filepath.Glob(filepath.Join(manDir, "flogtool*.1")); len(have) != len(pages) {
		t.Errorf("%d pages in docs/man, want %d", len(have), len(pages))
	}
}

// Every command has examples, and says what it does in one line.
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
