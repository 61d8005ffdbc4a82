package appserver

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"

	"github.com/flogtool/flogtool/internal/durable"
	"github.com/flogtool/flogtool/rpc"
)

// The files of a server's directory.
const (
	keyFile      = "tub.pem"
	portFile     = "port"
	locationFile = "location"
	umaskFile    = "umask"
	prefixFile   = "furl_prefix"
	servicesFile = "services.json"
	servicesDir  = "services"
	tacFile      = "flappserver.tac"
)

// tac is the content of flappserver.tac, which the original's "flappserver start" needs.
const tac = `# Read by the original's "flappserver start", not by ours.
from twisted.application.service import Application
from foolscap.appserver.server import AppServer

application = Application("flappserver")
AppServer().setServiceParent(application)
`

// A Dir is a server's directory. Several goroutines and processes may use it at once: a
// lock orders their changes, and each change replaces services.json as a whole.
type Dir struct {
	path   string // absolute
	prefix string // of the services' FURLs
}

// Options are the settings of a new directory.
type Options struct {
	Port     string      // where to listen, as for [rpc.Tub.Listen]; default tcp:3116
	Location string      // where clients find the server: hints such as tcp:example.org:3116; required
	Umask    fs.FileMode // for the files that services make
}

// Create makes a server's directory and its key, and returns the server's TubID. The error
// wraps [fs.ErrExist] if path exists, and after an error nothing is left of the directory.
func Create(path string, opts Options) (*Dir, rpc.TubID, error) {
	opts.Port = cmp.Or(opts.Port, "tcp:3116")
	if opts.Location == "" {
		return nil, "", errors.New("appserver: Options.Location is empty")
	}
	if strings.ContainsAny(opts.Port+opts.Location, "\r\n") {
		return nil, "", errors.New("appserver: port and location must be one line each")
	}
	if err := os.Mkdir(path, 0o700); err != nil { // durable.Mkdir would take one that exists
		return nil, "", fmt.Errorf("appserver: %w", err)
	}
	id, err := fill(path, opts)
	if err == nil {
		err = durable.SyncDir(filepath.Dir(path))
	}
	if err != nil {
		return nil, "", errors.Join(fmt.Errorf("appserver: create %q: %w", path, err), os.RemoveAll(path))
	}
	d, err := OpenDir(path)
	return d, id, err
}

// fill makes the content of a new directory.
func fill(path string, opts Options) (rpc.TubID, error) {
	tub, err := rpc.NewTub(rpc.Config{KeyFile: filepath.Join(path, keyFile)})
	if err != nil {
		return "", err
	}
	defer tub.Close()
	if err := tub.SetLocation(opts.Location); err != nil {
		return "", err
	}
	if err := durable.Mkdir(filepath.Join(path, servicesDir)); err != nil {
		return "", err
	}
	for name, text := range map[string]string{
		portFile:     opts.Port + "\n",
		locationFile: opts.Location + "\n",
		umaskFile:    fmt.Sprintf("%04o\n", opts.Umask&fs.ModePerm),
		prefixFile:   fmt.Sprintf("pb://%s@%s/\n", tub.ID(), opts.Location),
		tacFile:      tac,
	} {
		if err := durable.WriteFile(filepath.Join(path, name), []byte(text), 0o600); err != nil {
			return "", err
		}
	}
	d := Dir{path: path}
	return tub.ID(), d.save(map[string]entry{})
}

// OpenDir opens a server's directory, of this package or of the original.
func OpenDir(path string) (*Dir, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("appserver: %w", err)
	}
	d := &Dir{path: path}
	if d.prefix, err = d.line(prefixFile); err != nil {
		return nil, fmt.Errorf("appserver: %q is not a server's directory: %w", path, err)
	}
	return d, nil
}

// Path returns the directory's absolute path.
func (d *Dir) Path() string { return d.path }

// Umask returns the umask for the files that services make. ok is false if the directory
// does not specify one.
func (d *Dir) Umask() (mask int, ok bool, err error) {
	text, err := d.line(umaskFile)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("appserver: %w", err)
	}
	n, err := strconv.ParseUint(text, 8, 9)
	if err != nil {
		return 0, false, fmt.Errorf("appserver: %s: %q is not an octal number up to 777", filepath.Join(d.path, umaskFile), text)
	}
	return int(n), true, nil
}

// An Entry is one service in a directory.
type Entry struct {
	FURL     rpc.FURL // its Name is the swissnum
	Type     string   // the name of a [Type]
	Args     []string // as given to Add
	Comment  string   // for people
	Relative string   // the service's private directory, relative to the server's
}

// entry is the form of an Entry in services.json.
type entry struct {
	Relative string   `json:"relative_basedir"`
	Type     string   `json:"type"`
	Args     []string `json:"args"`
	Comment  *string  `json:"comment"`
}

// services is the content of services.json.
type services struct {
	Version  int              `json:"version"`
	Services map[string]entry `json:"services"`
}

// Services returns the services by ascending swissnum.
func (d *Dir) Services() ([]Entry, error) {
	all, err := d.load()
	if err != nil {
		return nil, err
	}
	entries := make([]Entry, 0, len(all))
	for name, e := range all {
		full, err := d.entry(name, e)
		if err != nil {
			return nil, err
		}
		entries = append(entries, full)
	}
	slices.SortFunc(entries, func(a, b Entry) int { return cmp.Compare(a.FURL.Name, b.FURL.Name) })
	return entries, nil
}

// Add adds a service of type typ, which must be the name of one of types. It checks args
// by making the service once. A running server has the service at once. After an error
// nothing is left of the service.
func (d *Dir) Add(types []Type, typ string, args []string, comment string) (Entry, error) {
	var added Entry
	err := d.change(func(all map[string]entry) (err error) {
		e := entry{Type: typ, Args: args}
		if args == nil {
			e.Args = []string{} // the original reads a list, not null
		}
		if comment != "" {
			e.Comment = &comment
		}
		if e.Relative, err = d.newServiceDir(); err != nil {
			return err
		}
		defer func() {
			if err != nil {
				err = errors.Join(err, os.Remove(filepath.Join(d.path, e.Relative)))
			}
		}()
		svc, err := makeService(types, d.place(e, slog.New(slog.DiscardHandler)), typ, args)
		if err != nil {
			return err
		}
		svc.Close()
		name := rpc.NewSwissnum()
		all[name] = e
		added, err = d.entry(name, e)
		return err
	})
	return added, err
}

// Remove removes the service with the swissnum name. From then on its FURL is not valid,
// also for connected clients. Its private directory is removed if it is empty.
func (d *Dir) Remove(name string) error {
	return d.change(func(all map[string]entry) error {
		e, ok := all[name]
		if !ok {
			return fmt.Errorf("there is no service %q", name)
		}
		delete(all, name)
		_ = os.Remove(filepath.Join(d.path, filepath.FromSlash(e.Relative))) // files that it has kept belong to the user
		return nil
	})
}

// Rotate gives the service with the swissnum name a new swissnum, and so a new FURL. From
// then on the old FURL is not valid, also for connected clients.
func (d *Dir) Rotate(name string) (Entry, error) {
	var rotated Entry
	err := d.change(func(all map[string]entry) (err error) {
		e, ok := all[name]
		if !ok {
			return fmt.Errorf("there is no service %q", name)
		}
		delete(all, name)
		fresh := rpc.NewSwissnum()
		all[fresh] = e
		rotated, err = d.entry(fresh, e)
		return err
	})
	return rotated, err
}

func (d *Dir) entry(name string, e entry) (Entry, error) {
	furl, err := rpc.ParseFURL(d.prefix + name)
	if err != nil {
		return Entry{}, fmt.Errorf("appserver: %s: %w", filepath.Join(d.path, prefixFile), err)
	}
	full := Entry{FURL: furl, Type: e.Type, Args: e.Args, Relative: e.Relative}
	if e.Comment != nil {
		full.Comment = *e.Comment
	}
	return full, nil
}

func (d *Dir) place(e entry, log *slog.Logger) Place {
	return Place{Base: d.path, Dir: filepath.Join(d.path, filepath.FromSlash(e.Relative)), Log: log}
}

// load reads services.json.
func (d *Dir) load() (map[string]entry, error) {
	path := filepath.Join(d.path, servicesFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return d.loadOld()
	}
	if err != nil {
		return nil, fmt.Errorf("appserver: %w", err)
	}
	var s services
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, fmt.Errorf("appserver: %s: %w", path, err)
	}
	if s.Version != 1 {
		return nil, fmt.Errorf("appserver: %s: unable to handle version %d", path, s.Version)
	}
	if s.Services == nil {
		s.Services = map[string]entry{}
	}
	return s.Services, nil
}

// change edits the list of services. The lock on the directory orders the changes of
// several processes.
func (d *Dir) change(edit func(all map[string]entry) error) error {
	lock, err := durable.LockDirWait(d.path)
	if err != nil {
		return fmt.Errorf("appserver: %w", err)
	}
	defer lock.Close()
	all, err := d.load()
	if err != nil {
		return err
	}
	if err := edit(all); err != nil {
		return fmt.Errorf("appserver: %w", err)
	}
	return d.save(all)
}

// save writes services.json in ASCII, which the original reads in any locale.
func (d *Dir) save(all map[string]entry) error {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(services{Version: 1, Services: all}); err != nil {
		return fmt.Errorf("appserver: %w", err)
	}
	if err := durable.WriteFile(filepath.Join(d.path, servicesFile), asciiJSON(bytes.TrimSpace(text.Bytes())), 0o600); err != nil {
		return fmt.Errorf("appserver: %w", err)
	}
	return nil
}

// asciiJSON returns a JSON text with every character outside ASCII as \uXXXX.
func asciiJSON(text []byte) []byte {
	var out []byte
	for _, r := range string(text) {
		switch {
		case r < 0x80:
			out = append(out, byte(r))
		case r < 0x10000:
			out = fmt.Appendf(out, `\u%04x`, r)
		default:
			hi, lo := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, hi, lo)
		}
	}
	return out
}

// newServiceDir makes services/N, where N is one more than the highest existing number.
func (d *Dir) newServiceDir() (string, error) {
	names, err := os.ReadDir(filepath.Join(d.path, servicesDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	highest := 0
	for _, n := range names {
		if i, err := strconv.Atoi(n.Name()); err == nil {
			highest = max(highest, i)
		}
	}
	relative := servicesDir + "/" + strconv.Itoa(highest+1)
	return relative, durable.MkdirAll(filepath.Join(d.path, relative))
}

// line returns the content of a file that holds one line.
func (d *Dir) line(name string) (string, error) {
	text, err := os.ReadFile(filepath.Join(d.path, name))
	return strings.TrimSpace(string(text)), err
}
