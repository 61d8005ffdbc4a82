package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/flogtool/flogtool/rpc/foolscaptest"
)

// A Go client and a Python client sign a guestbook.
func TestGuestbook(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	location := fmt.Sprintf("tcp:127.0.0.1:%d", l.Addr().(*net.TCPAddr).Port)
	l.Close()
	dir := filepath.Join(t.TempDir(), "server")
	do := func(args ...string) string {
		t.Helper()
		var out bytes.Buffer
		if err := run(t.Context(), args, &out); err != nil {
			t.Fatalf("%q: %v", args, err)
		}
		return strings.TrimSpace(out.String())
	}
	do("create", dir, location)
	furl := do("add", dir, "book") // in the server's directory
	if err := run(t.Context(), []string{"add", dir}, io.Discard); err == nil {
		t.Error("a guestbook without a file was added")
	}

	ctx, stop := context.WithCancel(context.Background())
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, []string{"run", dir}, w)
		w.Close()
	}()
	if line, err := bufio.NewReader(r).ReadString('\n'); err != nil || line != "running\n" {
		t.Fatalf("run printed %q, %v: %v", line, err, <-ended)
	}
	do("sign", furl, "hello from Go")
	if err := run(t.Context(), []string{"sign", furl, "two\nlines"}, io.Discard); err == nil || !strings.Contains(err.Error(), "one line") {
		t.Errorf("two lines: %v", err)
	}
	foolscaptest.Start(t, `
import sys
from twisted.internet import reactor
from foolscap.api import Tub
tub = Tub()
tub.startService()
d = tub.getReference(sys.argv[1])
d.addCallback(lambda book: book.callRemote("sign", u"hello from Python"))
d.addBoth(lambda result: print("result", result, flush=True))
reactor.run()
`, furl).Expect(t, "result None")
	stop()
	if err := <-ended; err != nil {
		t.Errorf("run: %v", err)
	}
	book, err := os.ReadFile(filepath.Join(dir, "book"))
	if err != nil || string(book) != "hello from Go\nhello from Python\n" {
		t.Errorf("the book contains %q, %v", book, err)
	}
}
