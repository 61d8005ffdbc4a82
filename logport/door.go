package logport

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/flogtool/flogtool/internal/durable"
	"github.com/flogtool/flogtool/rpc"
)

// door is what stands behind one of our furl files. When the name in the file
// changes, by [RotateFURL], all that came in by the old one ends.
type door struct {
	file string // the furl file, "" in memory
	open func(ctx context.Context) rpc.Object
	told func(rpc.FURL) // or nil

	furl rpc.FURL
	shut context.CancelFunc
}

// doors are the logport and the control object.
func (lp *Logport) openDoors() error {
	lp.doors = []*door{
		{file: furlFile, open: func(ctx context.Context) rpc.Object { return lp.newPublisher(ctx).methods },
			told: func(f rpc.FURL) { lp.furl.Store(&f) }},
		{file: controlFile, open: func(ctx context.Context) rpc.Object { return newControl(ctx, lp) },
			told: func(f rpc.FURL) { lp.controlFURL.Store(&f) }},
	}
	for _, d := range lp.doors {
		d.file = lp.slotFile(d.file)
		if err := lp.openDoor(d); err != nil {
			return err
		}
	}
	if lp.slot != nil {
		lp.slot.linkFURL()
	}
	return nil
}

// slotFile returns the path of a file in the slot, "" in memory.
func (lp *Logport) slotFile(name string) string {
	if lp.slot == nil {
		return ""
	}
	return lp.slot.file(name)
}

// openDoor registers a new object under the name in the door's file.
func (lp *Logport) openDoor(d *door) (err error) {
	ctx, shut := context.WithCancel(lp.late)
	obj := d.open(ctx)
	if d.file == "" {
		d.furl, err = lp.tub.Register(obj, "")
	} else {
		d.furl, err = lp.tub.RegisterFile(obj, d.file)
	}
	if err != nil {
		shut()
		return err
	}
	d.shut = shut
	d.told(d.furl)
	return nil
}

// watchDoors looks for furl files that were rotated, until ctx ends.
func (lp *Logport) watchDoors(ctx context.Context) {
	for {
		sleep(ctx, furlPoll)
		if ctx.Err() != nil {
			return
		}
		for _, d := range lp.doors {
			data, err := os.ReadFile(d.file)
			if err != nil {
				continue // being replaced, or taken away: what is registered stays
			}
			furl, err := rpc.ParseFURL(strings.TrimSpace(string(data)))
			if err != nil || furl.Name == d.furl.Name || furl.Tub != d.furl.Tub {
				continue
			}
			lp.tub.Unregister(d.furl.Name)
			d.shut()
			if err := lp.openDoor(d); err != nil {
				lp.report(unusual, "a rotated FURL cannot be used", slog.String("file", d.file), slog.String("err", err.Error()))
				continue
			}
			lp.report(unusual, "a FURL was rotated", slog.String("file", d.file))
		}
	}
}

// ControlFURL returns the address of the control object, which is the permission
// to change thresholds and to declare incidents. The error is ErrNoLocation
// while there is none.
func (lp *Logport) ControlFURL() (string, error) {
	f := lp.controlFURL.Load()
	if f == nil {
		return "", ErrNoLocation
	}
	return f.String(), nil
}

// furlNames are the FURLs that FURLFile knows.
var furlNames = map[string]string{"logport": furlFile, "control": controlFile}

// FURLFile returns the path of the file with the FURL called logport or control
// of a Dir or of one of its slots.
func FURLFile(dir, name string) (string, error) {
	file, ok := furlNames[name]
	if !ok {
		return "", fmt.Errorf("logport: %q is no FURL: logport and control are", name)
	}
	for _, path := range []string{filepath.Join(dir, file), filepath.Join(dir, "0", file)} {
		if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() {
			return path, nil
		}
	}
	return "", fmt.Errorf("logport: there is no %s in %s", file, dir)
}

// RotateFURL puts a new swissnum into a furl file and returns the new FURL. A
// process that runs with it takes it up within seconds, and ends what came in by
// the old one.
func RotateFURL(file string) (string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("logport: rotate: %w", err)
	}
	furl, err := rpc.ParseFURL(strings.TrimSpace(string(data)))
	if err != nil {
		return "", fmt.Errorf("logport: rotate %s: %w", file, err)
	}
	furl.Name = rpc.NewSwissnum()
	if err := durable.WriteFile(file, []byte(furl.String()+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("logport: rotate: %w", err)
	}
	return furl.String(), nil
}
