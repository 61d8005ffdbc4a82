package logport

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/flogtool/flogtool/internal/durable"
	"github.com/flogtool/flogtool/logport/internal/publish"
)

// slot is the part of a Config.Dir that one process uses. Several processes may share
// a Dir: each locks the first free slot.
//
//	DIR/logport.furl → 0/logport.furl
//	DIR/0/  tub.pem port logport.furl control.furl rings-INCARNATION incidents/
//	DIR/1/  …
type slot struct {
	path  string
	rings string        // where the rings files are
	lock  *durable.Lock // of the directory
}

const maxSlots = 16

// errNoSlot is what openSlot's error wraps if all slots are in use.
var errNoSlot = fmt.Errorf("all %d slots are in use by other processes", maxSlots)

// openSlot makes dir, and locks its first free slot. The rings of slot N are in
// it, or in ringDir/N.
func openSlot(dir, ringDir string) (*slot, error) {
	if err := durable.MkdirAll(dir); err != nil {
		return nil, err
	}
	for i := range maxSlots {
		path := filepath.Join(dir, strconv.Itoa(i))
		if err := durable.MkdirAll(path); err != nil {
			return nil, err
		}
		s, err := lockSlot(path)
		if errors.Is(err, durable.ErrInUse) {
			continue
		}
		if err == nil && ringDir != "" {
			s.rings = filepath.Join(ringDir, strconv.Itoa(i))
			err = durable.MkdirAll(s.rings)
		}
		return s, err
	}
	return nil, errNoSlot
}

// lockSlot locks the slot at path.
func lockSlot(path string) (*slot, error) {
	lock, err := durable.LockDir(path)
	if err != nil {
		return nil, err
	}
	return &slot{path: path, rings: path, lock: lock}, nil
}

// file returns the path of a file in the slot, "" without a slot.
func (s *slot) file(name string) string {
	if s == nil {
		return ""
	}
	return filepath.Join(s.path, name)
}

// writable reports why nothing can be written to the slot, nil if it can.
func (s *slot) writable() error {
	f, err := os.CreateTemp(s.path, "probe-*.tmp")
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, 1))
	return errors.Join(err, f.Close(), os.Remove(f.Name()))
}

// linkFURL makes DIR/logport.furl lead to slot 0's, so that `flogtool tail DIR`
// finds it. A file of that name that is there already is left alone.
func (s *slot) linkFURL() {
	if filepath.Base(s.path) != "0" {
		return
	}
	link := filepath.Join(filepath.Dir(s.path), furlFile)
	if _, err := os.Lstat(link); errors.Is(err, os.ErrNotExist) {
		os.Symlink(filepath.Join("0", furlFile), link)
	}
}

// port returns the port number kept in the slot, "0" if there is none.
func (s *slot) port() string {
	if s == nil {
		return "0"
	}
	data, err := os.ReadFile(s.file("port"))
	if err != nil {
		return "0"
	}
	port := strings.TrimSpace(string(data))
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "0"
	}
	return port
}

func (s *slot) close() error {
	if s == nil {
		return nil
	}
	return s.lock.Close()
}

// The furl files of a slot. The holder of the FURL in control.furl may change what is
// recorded, which the one in logport.furl does not allow.
const (
	furlFile    = "logport.furl"
	controlFile = "control.furl"
)

// furlNames are the FURLs that FURLFile knows.
var furlNames = map[string]string{"logport": furlFile, "control": controlFile}

// FURLFile returns the path of the file with the FURL called logport or control
// of a Dir or of one of its slots.
func FURLFile(dir, name string) (string, error) {
	file, ok := furlNames[name]
	if !ok {
		return "", fmt.Errorf("logport: %q is not the name of a FURL: want logport or control", name)
	}
	for _, path := range []string{filepath.Join(dir, file), filepath.Join(dir, "0", file)} {
		if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() {
			return path, nil
		}
	}
	return "", fmt.Errorf("logport: there is no %s in %s", file, dir)
}

// RotateFURL puts a new swissnum into a furl file and returns the new FURL. A process
// that runs with the file uses it within seconds, and ends what was begun with the
// old one.
func RotateFURL(file string) (string, error) {
	furl, err := publish.RotateFURL(file)
	if err != nil {
		return "", fmt.Errorf("logport: rotate: %w", err)
	}
	return furl.String(), nil
}
