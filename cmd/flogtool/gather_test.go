package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/flogtool/flogtool/rpc/foolscaptest"
)

// TestGatherFromPython uses the commands as a person does: they make and run a gatherer of
// logs and incidents, a Python program connects to its FURL, and dump shows the result.
func TestGatherFromPython(t *testing.T) {
	foolscaptest.Python(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	l.Close()
	dir := filepath.Join(t.TempDir(), "ig")
	do := func(args ...string) string {
		t.Helper()
		var out, errw bytes.Buffer
		if code := run(t.Context(), args, strings.NewReader(""), &out, &errw); code != 0 {
			t.Fatalf("%q: exit code %d: %s", args, code, errw.Bytes())
		}
		return out.String()
	}
	do("create-incident-gatherer", "-q", "-p", "tcp:"+port+":interface=127.0.0.1", "-l", "tcp:127.0.0.1:"+port, dir)
	settings := filepath.Join(dir, "gatherer.toml")
	text, err := os.ReadFile(settings)
	if err != nil {
		t.Fatal(err)
	}
	both := strings.Replace(string(text), `jobs = ["incidents"]`, `jobs = ["logs", "incidents"]`, 1)
	for name, text := range map[string]string{
		settings:                                 both,
		filepath.Join(dir, "classify_disk.expr"): "// The disk is full.\nmessage contains \"disk\" and level >= WEIRD ? \"disk-full\" : nil\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	out, outW := io.Pipe()
	stderr, stderrW := io.Pipe()
	go func() {
		ended <- run(ctx, []string{"run", dir}, strings.NewReader(""), outW, stderrW)
		outW.Close()
		stderrW.Close()
	}()
	logged := make(chan string, 1000)
	go func() { // ends with run
		defer close(logged)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			logged <- lines.Text()
		}
	}()
	lines := bufio.NewScanner(out)
	lines.Scan()
	furl, ok := strings.CutPrefix(lines.Text(), "Gatherer waiting at: ")
	if !ok {
		t.Fatalf("run printed %q", lines.Text())
	}
	await := func(text string) string {
		t.Helper()
		for line := range logged {
			if strings.Contains(line, text) {
				return line
			}
		}
		t.Fatalf("run did not log %q", text)
		return ""
	}

	p := foolscaptest.Start(t, `
import sys
from twisted.internet import reactor
from foolscap.api import Tub
from foolscap.logging import log
log.setLogDir(sys.argv[1])
tub = Tub()
tub.setOption("log-gatherer-furl", sys.argv[2])
tub.startService()
tub.listenOn("tcp:0:interface=127.0.0.1")
tub.setLocation("tcp:127.0.0.1:1")
def go(line):
    for i in range(10):
        log.msg("noise %d" % i, level=log.NOISY)
    log.msg("disk full", level=log.WEIRD, facility="spool")
    log.msg("cleaning up", level=log.NOISY)
from twisted.internet import stdio
from twisted.protocols.basic import LineReceiver
class In(LineReceiver):
    delimiter = b"\n"
    lineReceived = lambda self, line: go(line)
stdio.StandardIO(In())
reactor.run()
`, t.TempDir(), furl)
	await("gathering events")
	await("gathering incidents")
	p.Say(t, "go")
	await("categories=[disk-full]")
	cancel()
	if code := <-ended; code != 0 {
		t.Errorf("run ended with exit code %d", code)
	}

	files, _ := filepath.Glob(filepath.Join(dir, "incidents", "*", "incident-*.flog.zst"))
	if len(files) != 1 {
		t.Fatalf("incidents are %q, want one", files)
	}
	dump := do("dump", files[0])
	if !regexp.MustCompile(`(?s)#\d+ \S+: noise 0\n.*: noise 9\n\S+#\d+ \S+: disk full \[INCIDENT-TRIGGER\]\n\S+#\d+ \S+: cleaning up\n`).MatchString(dump) {
		t.Errorf("dump of the incident is\n%s", dump)
	}
	files, _ = filepath.Glob(filepath.Join(dir, "from-*---to-present.flog"))
	if len(files) != 1 {
		t.Fatalf("logs are %q, want one", files)
	}
	if dump := do("dump", files[0]); !strings.Contains(dump, ": noise 9\n") || !strings.Contains(dump, ": disk full\n") {
		t.Errorf("dump of the log is\n%s", dump)
	}
}
