package gatherer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/flogtool/flogtool/incident"
)

// Options say what [Create] makes.
type Options struct {
	Incidents bool   // gather incidents; otherwise every event
	Port      string // where to listen, in Twisted's form; default tcp:3117, with Incidents tcp:3118
	Location  string // where others find it: hints like tcp:example.org:3117; required
	Rotate    string // seconds between two log files, as text; default: only on SIGHUP
	Bzip      bool   // compress log files as .bz2, for the original's tools
}

// Create makes dir a gatherer's directory: `port`, `location` and a
// gatherer.toml with every setting and its default. An existing directory is
// used: port and location are written anew and all else in it stays, a
// gatherer.toml too, unless it does another job than the one asked for, which
// is an error.
func Create(dir string, opts Options) error {
	if opts.Location == "" {
		return errors.New("gatherer: Options.Location is empty")
	}
	s := defaults()
	s.Jobs = []string{jobLogs}
	port := "tcp:3117"
	if opts.Incidents {
		s.Jobs = []string{jobIncidents}
		port = "tcp:3118"
	}
	if opts.Port != "" {
		port = opts.Port
	}
	if err := checkPort(port); err != nil {
		return fmt.Errorf("gatherer: port %q: %w", port, err)
	}
	if opts.Rotate != "" {
		every, err := parseSeconds(opts.Rotate)
		if err != nil {
			return fmt.Errorf("gatherer: rotate %q: %w", opts.Rotate, err)
		}
		s.Logs.Rotate = duration(every)
	}
	if opts.Bzip {
		s.Logs.Compress = compressBzip2
	}

	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("gatherer: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("gatherer: %w", err)
	}
	defer root.Close()

	text, err := root.ReadFile(settingsFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := replace(root, settingsFile, s.text()); err != nil {
			return err
		}
	case err != nil:
		return fmt.Errorf("gatherer: %w", err)
	default:
		old, err := parseSettings(text)
		if err != nil {
			return fmt.Errorf("gatherer: %s: %w", filepath.Join(dir, settingsFile), err)
		}
		if !slices.Contains(old.Jobs, s.Jobs[0]) {
			return fmt.Errorf("gatherer: %s says jobs = %q and is kept: add %q to it", filepath.Join(dir, settingsFile), old.Jobs, s.Jobs[0])
		}
	}
	if err := replace(root, portFile, []byte(port+"\n")); err != nil {
		return err
	}
	if err := replace(root, locationFile, []byte(opts.Location+"\n")); err != nil {
		return err
	}
	// From here on all that comes is to be published. What an original gatherer
	// left here counts as published, which the missing ledger tells at start.
	if _, err := root.Stat(incidentsDir); errors.Is(err, fs.ErrNotExist) {
		return startLedgers(root)
	}
	return nil
}

// checkPort refuses what cannot be written into a FURL that lasts, as the
// original does.
func checkPort(port string) error {
	switch {
	case strings.HasPrefix(port, "ssl:"):
		return errors.New("connections are encrypted as they are: use tcp")
	case port == "0", port == "tcp:0", strings.HasPrefix(port, "tcp:0:"):
		return errors.New("a port that changes at every start cannot be in a FURL that lasts: name one")
	case strings.ContainsAny(port, "\r\n"):
		return errors.New("it must be one line")
	}
	return nil
}

// replace writes text as the file name, durably.
func replace(root *os.Root, name string, text []byte) error {
	err := incident.Replace(root, name, func(w io.Writer) error {
		_, err := io.Copy(w, bytes.NewReader(text))
		return err
	})
	if err != nil {
		return fmt.Errorf("gatherer: %w", err)
	}
	return nil
}
