package tail_test

import (
	"bufio"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/flogtool/flogtool/event/flogfile"
	"github.com/flogtool/flogtool/tail"
)

const line = `{"from": "local", "rx_time": 1.0, "d": {"num": 0, "level": 20, "message": "MESSAGE", "time": 1.25, "incarnation": ["x", null]}}` + "\n"

func appendTo(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

// Follow shows the lines of a growing file as they come, and those of the file that replaces
// it when it is rotated.
func TestDumpFollow(t *testing.T) {
	dir := t.TempDir()
	first := filepath.Join(dir, "from-2026-11-22--16-18-44Z---to-present.flog")
	appendTo(t, first, flogfile.Magic+strings.Replace(line, "MESSAGE", "one", 1)+line[:20])
	r, w := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		d := tail.Dump{Files: []string{first}, Watch: []string{dir}, Follow: true, Out: w, Notes: t.Output(), Style: tail.Style{Zone: time.UTC}}
		ended <- d.Run(ctx)
		w.Close()
	}()
	lines := bufio.NewScanner(r)
	want := func(text string) {
		t.Helper()
		if !lines.Scan() || !strings.HasSuffix(lines.Text(), "| local#0 00:00:01.250: "+text) {
			t.Fatalf("line %q, want one that ends in %q", lines.Text(), text)
		}
	}
	want("one")
	appendTo(t, first, strings.Replace(line, "MESSAGE", "two", 1)[20:])
	want("two")
	if err := os.Rename(first, strings.Replace(first, "present", "2026-11-22--16-19-15Z", 1)); err != nil {
		t.Fatal(err)
	}
	appendTo(t, filepath.Join(dir, "from-2026-11-22--16-19-15Z---to-present.flog"), flogfile.Magic+strings.Replace(line, "MESSAGE", "three", 1))
	want("three")
	cancel()
	go io.Copy(io.Discard, r)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
