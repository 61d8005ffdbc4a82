package logport_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/logport"
)

func TestConfigThatCannotWork(t *testing.T) {
	if lp, err := logport.Open(logport.Config{RingBytes: 1000}); err == nil {
		lp.Close()
		t.Error("Open accepts rings of 1000 bytes")
	}
	t.Setenv("FLOG_RING_BYTES", "many")
	if lp, err := logport.Open(logport.Config{}); err == nil || !strings.Contains(err.Error(), "FLOG_RING_BYTES") {
		lp.Close()
		t.Errorf("FLOG_RING_BYTES=many gives %v", err)
	}
}

func TestRingBytesFromTheEnvironment(t *testing.T) {
	t.Setenv("FLOG_RING_BYTES", fmt.Sprint(1<<20))
	lp := open(t, logport.Config{Listen: "off"})
	for range 100_000 {
		lp.Log(context.Background(), slog.LevelDebug, "twenty bytes or so....")
	}
	total := 0
	for _, f := range lp.Facilities() {
		total += f.Bytes
	}
	if total < 800<<10 || total > 1<<20 {
		t.Errorf("the rings take %d bytes, want at most 1 MiB and most of it", total)
	}
}

func TestFacilities(t *testing.T) {
	lp := open(t, logport.Config{Listen: "off"})
	lp.DescribeFacility("app.db", "queries and their times")
	lp.DescribeFacility("app.unused", "nothing yet")
	lp.SetThreshold("app", event.Unusual)
	lp.Log(context.Background(), slog.LevelWarn, "m", logport.Facility("app.db"))
	var got []string
	for _, f := range lp.Facilities() {
		if strings.HasPrefix(f.Name, "app") {
			got = append(got, fmt.Sprint(f.Name, ": ", f.Description, " ", f.Threshold, " ", f.Bytes > 0))
		}
	}
	want := "app.db: queries and their times UNUSUAL true, app.unused: nothing yet UNUSUAL false"
	if strings.Join(got, ", ") != want {
		t.Errorf("Facilities gives %q", got)
	}
}

// TestNothingIsLeftBehind: no goroutine after Close, and all of it may be called
// again.
func TestNothingIsLeftBehind(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	lp, err := logport.Open(logport.Config{Dir: t.TempDir(), Gatherers: []string{
		"pb://aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa@tcp:127.0.0.1:1/name", filepath.Join(t.TempDir(), "none.furl")}})
	if err != nil {
		t.Fatal(err)
	}
	lp.Log(context.Background(), slog.LevelWarn, "trigger")
	for range 2 {
		if err := lp.Close(); err != nil {
			t.Error(err)
		}
	}
	before := lp.Stats().Events
	lp.Log(context.Background(), slog.LevelError, "after Close")
	if lp.Stats().Events != before+1 {
		t.Error("an event after Close is not in the rings")
	}
}

// TestFilesAreOurs: keys, furls, rings and incidents are readable by their owner
// alone, whatever the umask.
func TestFilesAreOurs(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	dir := filepath.Join(t.TempDir(), "flog")
	lp := open(t, logport.Config{Dir: dir})
	lp.DeclareIncident(context.Background(), "m")
	lp.Flush(context.Background())
	files := 0
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		switch {
		case err != nil:
			return err
		case info.IsDir() && info.Mode().Perm() != 0o700, info.Mode().IsRegular() && info.Mode().Perm() != 0o600:
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		files++
		return nil
	})
	if err != nil || files < 8 {
		t.Errorf("%d files, %v", files, err)
	}
}

// TestFullDisk: with no room for rings Open succeeds, the first event tells, and
// logging goes on.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"); err != nil {
		t.Skipf("a small file system cannot be mounted here: %v", err)
	}
	defer syscall.Unmount(dir, syscall.MNT_DETACH)
	lp := open(t, logport.Config{Dir: dir, Listen: "off", RingBytes: 1 << 20})
	told := false
	for e := range lp.Buffered() {
		told = told || strings.Contains(e.Text("message"), "rings are kept in memory")
	}
	if !told {
		t.Error("nothing tells that the rings are in memory")
	}
	filler, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = filler.Write(make([]byte, 4096))
	}
	filler.Close()
	for range 200 {
		lp.Log(context.Background(), slog.LevelDebug, strings.Repeat("x", 100))
	}
	lp.DeclareIncident(context.Background(), "with a full disk")
	lp.Flush(context.Background())
	told = false
	for e := range lp.Buffered() {
		told = told || strings.Contains(e.Text("message"), "incident could not be recorded") && strings.Contains(e.Text("err"), "no space")
	}
	if !told || lp.Stats().Incidents != 0 {
		t.Errorf("the full disk is not told, or %d incidents are claimed", lp.Stats().Incidents)
	}
	os.Remove(filler.Name())
	lp.DeclareIncident(context.Background(), "with room again")
	if lp.Flush(context.Background()); lp.Stats().Incidents != 1 {
		t.Errorf("%d incidents when there is room again, want 1", lp.Stats().Incidents)
	}
}

func TestReadOnlyDirectory(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_RDONLY, ""); err != nil {
		t.Skipf("a read-only file system cannot be mounted here: %v", err)
	}
	defer syscall.Unmount(dir, syscall.MNT_DETACH)
	lp := open(t, logport.Config{Dir: filepath.Join(dir, "flog"), Listen: "off"})
	for e := range lp.Buffered() {
		if !strings.Contains(e.Text("message"), "recording in memory") || !strings.Contains(e.Text("err"), "read-only file system") {
			t.Errorf("the first event is %s", e.AppendJSON(nil))
		}
		break
	}
}
