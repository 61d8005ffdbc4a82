package main

import (
	"bytes"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra/doc"
)

var update = flag.Bool("update", false, "rewrite docs/man/git-remote-pb.1")

// The manual page is that of the command as it is.
func TestManPage(t *testing.T) {
	const file = "../../docs/man/git-remote-pb.1"
	cmd := newCommand()
	cmd.DisableAutoGenTag = true
	var page bytes.Buffer
	header := &doc.GenManHeader{Section: "1", Source: "flogtool", Manual: "flogtool"}
	if err := doc.GenMan(cmd, header, &page); err != nil {
		t.Fatal(err)
	}
	// The date is that of the build; a page has none.
	text := []byte(strings.Replace(page.String(), header.Date.Format("Jan 2006"), "", 1))
	if *update {
		if err := os.WriteFile(file, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if have, err := os.ReadFile(file); err != nil || !bytes.Equal(have, text) {
		t.Errorf("%s is not what the help says (%v); -update rewrites it", file, err)
	}
}
