//go:build linux

package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/flogtool/flogtool/cmd/internal/clitest"
	"github.com/flogtool/flogtool/rpc"
)

// An upload of more than a second shows its progress on a terminal, and removes it at the
// end.
func TestUploadProgress(t *testing.T) {
	const size = 3 << 20
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	// The server reads the first block, and the rest after the bar has appeared.
	seen := make(chan struct{})
	service := &rpc.Methods{Map: map[string]func(*rpc.Call) (any, error){"putfile": func(c *rpc.Call) (any, error) {
		source := c.Args.Pos[1].(*rpc.Remote)
		for i := 0; ; i++ {
			var block []byte
			if err := source.Call(c.Context(), "read", rpc.Pos(1<<20), &block); err != nil || len(block) == 0 {
				return nil, err
			}
			if i == 0 {
				<-seen
			}
		}
	}}}
	tub, err := rpc.NewTub(rpc.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer tub.Close()
	addr, err := tub.Listen("tcp:127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := tub.SetLocation("tcp:" + addr.String()); err != nil {
		t.Fatal(err)
	}
	furl, err := tub.Register(service, "")
	if err != nil {
		t.Fatal(err)
	}
	tty, until := clitest.Terminal(t)
	ended := make(chan int, 1)
	go func() {
		ended <- run(t.Context(), []string{"--furl", furl.String(), "upload-file", file}, strings.NewReader(""), io.Discard, tty)
	}()
	if bar := until("MB"); !strings.Contains(bar, "[####") || !strings.Contains(bar, " 33 % of 3 MB") {
		t.Errorf("the bar is %q", bar)
	}
	close(seen)
	if code := <-ended; code != 0 {
		t.Errorf("exit code %d", code)
	}
	until("\r\x1b[K")
}
