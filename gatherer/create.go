package gatherer

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/flogtool/flogtool/gatherer/archive"
	"github.com/flogtool/flogtool/gatherer/eventlog"
	"github.com/flogtool/flogtool/internal/durable"
)

// Options are those of [Create].
type Options struct {
	Incidents bool   // gather incidents; otherwise every event
	Port      string // where to listen, in Twisted's form; default tcp:3117, with Incidents tcp:3118
	Location  string // hints at which others can connect, like tcp:example.org:3117; required
	Rotate    string // seconds between two log files, as text; default: only on SIGHUP
	Bzip      bool   // compress log files as .bz2, for the original's tools
}

// Create makes path a gatherer's directory: `port`, `location` and a gatherer.toml
// with every setting and its default. In an existing directory it replaces port and
// location and keeps everything else. It refuses a directory whose gatherer.toml
// does not have the job that opts asks for.
func Create(path string, opts Options) error {
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
		s.Logs.Compress = eventlog.Bzip2
	}

	if err := durable.Mkdir(path); err != nil {
		return fmt.Errorf("gatherer: %w", err)
	}
	dir, err := durable.Open(path)
	if err != nil {
		return fmt.Errorf("gatherer: %w", err)
	}
	defer dir.Close()

	text, err := dir.ReadFile(settingsFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := dir.WriteFile(settingsFile, s.text(), 0o600); err != nil {
			return fmt.Errorf("gatherer: %w", err)
		}
	case err != nil:
		return fmt.Errorf("gatherer: %w", err)
	default:
		old, err := parseSettings(text)
		if err != nil {
			return fmt.Errorf("gatherer: %s: %w", filepath.Join(path, settingsFile), err)
		}
		if !slices.Contains(old.Jobs, s.Jobs[0]) {
			return fmt.Errorf("gatherer: %s says jobs = %q and is kept: add %q to it", filepath.Join(path, settingsFile), old.Jobs, s.Jobs[0])
		}
	}
	if err := dir.WriteFile(portFile, []byte(port+"\n"), 0o600); err != nil {
		return fmt.Errorf("gatherer: %w", err)
	}
	if err := dir.WriteFile(locationFile, []byte(opts.Location+"\n"), 0o600); err != nil {
		return fmt.Errorf("gatherer: %w", err)
	}
	return archive.Create(dir)
}

// checkPort refuses ports that cannot be in a FURL that lasts, as the original
// does.
func checkPort(port string) error {
	switch {
	case strings.HasPrefix(port, "ssl:"):
		return errors.New("every connection is encrypted: use tcp")
	case port == "0", port == "tcp:0", strings.HasPrefix(port, "tcp:0:"):
		return errors.New("a port that changes at every start cannot be in a FURL that lasts: name one")
	case strings.ContainsAny(port, "\r\n"):
		return errors.New("it must be one line")
	}
	return nil
}
