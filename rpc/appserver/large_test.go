package appserver_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/flogtool/flogtool/rpc"
	"github.com/flogtool/flogtool/rpc/appserver"
	"github.com/flogtool/flogtool/rpc/foolscaptest"
)

// TestLarge sends a large file and a large standard input between the original and this
// package, in both directions: 300 MB and 100 MB with FLOG_SOAK=1.
func TestLarge(t *testing.T) {
	upload, input := int64(20<<20), int64(8<<20)
	if os.Getenv("FLOG_SOAK") != "" {
		upload, input = 300<<20, 100<<20
	}
	local := t.TempDir()
	file, stdin := filepath.Join(local, "upload"), filepath.Join(local, "stdin")
	writeLarge(t, file, upload)
	writeLarge(t, stdin, input)

	// services adds both services with the original's tool and opens the directory.
	services := func(t *testing.T) (d *appserver.Dir, target string, put, cat rpc.FURL) {
		dir, target := originalDir(t), t.TempDir()
		tool(t, 0, "flappserver", "add", dir, "upload-file", target)
		tool(t, 0, "flappserver", "add", dir, "run-command", "--accept-stdin", "/", "cat")
		d, err := appserver.OpenDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		entries, err := d.Services()
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Type == "upload-file" {
				put = e.FURL
			} else {
				cat = e.FURL
			}
		}
		return d, target, put, cat
	}
	t.Run("the original's client", func(t *testing.T) {
		d, target, put, cat := services(t)
		serve(t, d)
		tool(t, 0, "flappclient", "--furl", put.String(), "upload-file", file)
		sameContent(t, file, filepath.Join(target, "upload"))
		in, err := os.Open(stdin)
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		copied := filepath.Join(target, "copied")
		out, err := os.Create(copied) // that client loses the end of its output to a pipe
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, foolscaptest.Tool(t, "flappclient"), "--furl", cat.String(), "run-command")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, t.Output()
		if err := cmd.Run(); err != nil {
			t.Error(err)
		}
		sameContent(t, stdin, copied)
	})
	t.Run("the original's server", func(t *testing.T) {
		d, target, put, cat := services(t)
		p := foolscaptest.Start(t, originalServer, d.Path())
		p.Expect(t, "^up$")
		in, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		if err := appserver.Upload(t.Context(), connect(t, put), "upload", in, nil); err != nil {
			t.Error(err)
		}
		sameContent(t, file, filepath.Join(target, "upload"))
		feed, err := os.Open(stdin)
		if err != nil {
			t.Fatal(err)
		}
		defer feed.Close()
		sum := sha256.New()
		exit, err := appserver.Execute(t.Context(), connect(t, cat), feed, sum, t.Output())
		if err != nil || exit != (appserver.Exit{}) {
			t.Errorf("Execute = %v, %v", exit, err)
		}
		if got, want := fmt.Sprintf("%x", sum.Sum(nil)), contentSum(t, stdin); got != want {
			t.Error("what cat gave back is not what it was given")
		}
	})
}

func writeLarge(t *testing.T, path string, n int64) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.CopyN(f, rand.NewChaCha8([32]byte{2}), n); err != nil {
		t.Fatal(err)
	}
}

func contentSum(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sum.Sum(nil))
}

func sameContent(t *testing.T, want, got string) {
	t.Helper()
	if contentSum(t, want) != contentSum(t, got) {
		t.Errorf("%s is not what was sent", got)
	}
}
