package gatherer

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/gatherer/bus"
	"github.com/flogtool/flogtool/gatherer/eventlog"
	"github.com/flogtool/flogtool/internal/durable"
)

// The files of a gatherer's directory that define it; flogfile.md section 5.
const (
	settingsFile = "gatherer.toml"
	tacFile      = "gatherer.tac" // the original's program: read as text, not run
	portFile     = "port"
	locationFile = "location"
	keyFile      = "gatherer.pem"
	furlFile     = "log_gatherer.furl"
)

// The jobs of a gatherer.
const (
	jobLogs      = "logs"
	jobIncidents = "incidents"
)

// settings is the content of gatherer.toml. settings.toml, from which the file of a
// new directory is made, documents them.
type settings struct {
	Jobs          []string          `toml:"jobs"`
	MaxPublishers int               `toml:"max_publishers"`
	Logs          logSettings       `toml:"logs"`
	Incidents     incidentSettings  `toml:"incidents"`
	NATS          messagingSettings `toml:"nats"`
}

type logSettings struct {
	Rotate       duration `toml:"rotate"` // 0: on SIGHUP only
	Compress     string   `toml:"compress"`
	SyncInterval duration `toml:"sync_interval"`
	MaxEvent     size     `toml:"max_event"`
}

func (s logSettings) config(log *slog.Logger) eventlog.Config {
	return eventlog.Config{
		Rotate: time.Duration(s.Rotate), Compress: s.Compress, SyncInterval: time.Duration(s.SyncInterval), Log: log,
	}
}

type incidentSettings struct {
	MaxSize size `toml:"max_size"`
}

type messagingSettings struct {
	Enabled      bool       `toml:"enabled"`
	URL          string     `toml:"url"` // "": the embedded server
	Listen       string     `toml:"listen"`
	User         string     `toml:"user"`
	PasswordFile string     `toml:"password_file"`
	Events       eventLevel `toml:"events"`
	MaxStore     size       `toml:"max_store"`
	MaxAge       duration   `toml:"max_age"`
}

func (s messagingSettings) config(log *slog.Logger) bus.Config {
	return bus.Config{
		URL: s.URL, Listen: s.Listen, User: s.User, PasswordFile: s.PasswordFile,
		MaxStore: int64(s.MaxStore), MaxAge: time.Duration(s.MaxAge),
		Events: s.Events.from, NoEvents: s.Events.none, Log: log,
	}
}

func defaults() settings {
	return settings{
		Jobs:          []string{jobLogs, jobIncidents},
		MaxPublishers: 10_000,
		Logs: logSettings{
			Compress:     eventlog.Zstd,
			SyncInterval: duration(time.Second),
			MaxEvent:     1 << 20,
		},
		Incidents: incidentSettings{MaxSize: 64 << 20},
		NATS: messagingSettings{
			Enabled:  true,
			Events:   eventLevel{event.Weird, false},
			MaxStore: 1 << 30,
			MaxAge:   duration(30 * 24 * time.Hour),
		},
	}
}

//go:embed settings.toml
var settingsText string

var settingsTemplate = template.Must(template.New(settingsFile).Parse(settingsText))

// text returns s as the text of a gatherer.toml, with a comment for each setting.
func (s settings) text() []byte {
	var b bytes.Buffer
	if err := settingsTemplate.Execute(&b, s); err != nil {
		panic(err) // the template does not match the struct
	}
	return b.Bytes()
}

// does reports whether the gatherer has the job.
func (s settings) does(job string) bool { return slices.Contains(s.Jobs, job) }

// readSettings returns the settings of a gatherer's directory. If the original made
// it, they are read from its gatherer.tac.
func readSettings(dir *durable.Dir) (s settings, original bool, err error) {
	text, err := dir.ReadFile(settingsFile)
	if err == nil {
		s, err = parseSettings(text)
		if err != nil {
			return s, false, fmt.Errorf("gatherer: %s: %w", settingsFile, err)
		}
		return s, false, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return s, false, fmt.Errorf("gatherer: %w", err)
	}
	text, err = dir.ReadFile(tacFile)
	if errors.Is(err, fs.ErrNotExist) {
		return s, false, fmt.Errorf("gatherer: neither %s nor %s is in %s: flogtool create-gatherer makes a gatherer's directory",
			settingsFile, tacFile, dir.Name())
	}
	if err != nil {
		return s, true, fmt.Errorf("gatherer: %w", err)
	}
	s, err = parseTac(text)
	if err != nil {
		return s, true, fmt.Errorf("gatherer: %s: %w", tacFile, err)
	}
	return s, true, nil
}

// parseSettings reads a gatherer.toml. Missing settings have their defaults. An
// unknown one is an error with its line and column.
func parseSettings(text []byte) (settings, error) {
	s := defaults()
	d := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		if unknown, ok := errors.AsType[*toml.StrictMissingError](err); ok && len(unknown.Errors) > 0 {
			first := unknown.Errors[0]
			line, column := first.Position()
			return s, fmt.Errorf("line %d, column %d: there is no setting %q", line, column, strings.Join(first.Key(), "."))
		}
		if bad, ok := errors.AsType[*toml.DecodeError](err); ok {
			line, column := bad.Position()
			return s, fmt.Errorf("line %d, column %d: %s", line, column, strings.TrimPrefix(bad.Error(), "toml: "))
		}
		return s, err
	}
	return s, s.check()
}

func (s settings) check() error {
	if len(s.Jobs) == 0 {
		return fmt.Errorf("jobs is empty: one of %q, %q, or both", jobLogs, jobIncidents)
	}
	for _, job := range s.Jobs {
		if job != jobLogs && job != jobIncidents {
			return fmt.Errorf("jobs: there is no job %q, only %q and %q", job, jobLogs, jobIncidents)
		}
	}
	if s.MaxPublishers < 1 {
		return errors.New("max_publishers must be 1 or more")
	}
	switch s.Logs.Compress {
	case eventlog.Zstd, eventlog.Bzip2, eventlog.None:
	default:
		return fmt.Errorf("logs.compress is %q: it must be %q, %q or %q", s.Logs.Compress, eventlog.Zstd, eventlog.Bzip2, eventlog.None)
	}
	if r := s.Logs.Rotate; r != 0 && time.Duration(r) < time.Second {
		return errors.New("logs.rotate must be a second or more, or 0s for never")
	}
	if s.Logs.SyncInterval <= 0 {
		return errors.New("logs.sync_interval must be more than 0s")
	}
	if s.Logs.MaxEvent < 4<<10 {
		return errors.New("logs.max_event must be 4 KiB or more")
	}
	if s.Incidents.MaxSize < 64<<10 {
		return errors.New("incidents.max_size must be 64 KiB or more")
	}
	if s.NATS.URL != "" && s.NATS.Listen != "" {
		return errors.New("nats.url is for an existing server and nats.listen for the embedded one: set one of them")
	}
	if (s.NATS.User == "") != (s.NATS.PasswordFile == "") {
		return errors.New("nats.user and nats.password_file go together: set both or none")
	}
	if s.NATS.MaxStore < 1<<20 || s.NATS.MaxAge <= 0 {
		return errors.New("nats.max_store must be 1 MiB or more and nats.max_age more than 0s")
	}
	return nil
}

// The lines of a gatherer.tac with the original's settings. They begin their line,
// since an example in a comment may look the same.
var (
	tacRotate = regexp.MustCompile(`(?m)^rotate[ \t]*=[ \t]*(.*?)[ \t\r]*$`)
	tacBzip   = regexp.MustCompile(`(?m)^use_bzip[ \t]*=[ \t]*(.*?)[ \t\r]*$`)
	tacKind   = regexp.MustCompile(`(?m)^[^#\n]*\b(Incident)?GathererService\(`)
)

// parseTac reads the text of an original's gatherer.tac: the kind of gatherer,
// `rotate =` and `use_bzip =`.
func parseTac(text []byte) (settings, error) {
	s := defaults()
	kind := tacKind.FindSubmatch(text)
	switch {
	case kind == nil:
		return s, errors.New("no line makes a GathererService or an IncidentGathererService")
	case len(kind[1]) > 0:
		s.Jobs = []string{jobIncidents}
	default:
		s.Jobs = []string{jobLogs}
	}
	if m := tacRotate.FindSubmatch(text); m != nil && string(m[1]) != "None" {
		d, err := parseSeconds(string(m[1]))
		if err != nil {
			return s, fmt.Errorf("rotate = %s: %w", m[1], err)
		}
		s.Logs.Rotate = duration(d)
	}
	s.Logs.Compress = eventlog.None
	if m := tacBzip.FindSubmatch(text); m != nil && string(m[1]) == "True" {
		s.Logs.Compress = eventlog.Bzip2
	}
	return s, s.check()
}

// parseSeconds parses an interval as the original writes it.
func parseSeconds(text string) (time.Duration, error) {
	s, err := strconv.ParseFloat(text, 64)
	if err != nil || !(s >= 1 && s <= 1e9) {
		return 0, errors.New("it must be a number of seconds, 1 or more")
	}
	return time.Duration(s * float64(time.Second)), nil
}

// oneLine returns the content of a file with one line, such as `port`.
func oneLine(dir *durable.Dir, name string) (string, error) {
	text, err := dir.ReadFile(name)
	if err != nil {
		return "", err
	}
	line := strings.TrimSpace(string(text))
	if line == "" || strings.ContainsAny(line, "\r\n") {
		return "", fmt.Errorf("%s must be one line", name)
	}
	return line, nil
}

// duration is a time.Duration that is written like 1h30m.
type duration time.Duration

func (d *duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil || v < 0 {
		return fmt.Errorf("%q is not a duration: write it like 1h30m, 90s", text)
	}
	*d = duration(v)
	return nil
}

func (d duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// size is a number of bytes that is written with a unit: 64 MiB.
type size int64

var units = []struct {
	name  string
	bytes size
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

func (n *size) UnmarshalText(text []byte) error {
	for _, u := range units {
		digits, ok := strings.CutSuffix(string(text), u.name)
		if !ok {
			continue
		}
		v, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err != nil || v < 0 || v > int64(1<<50/u.bytes) {
			break
		}
		*n = size(v) * u.bytes
		return nil
	}
	return fmt.Errorf("%q is not a size: write it like 512 KiB, 64 MiB, 1 GiB", text)
}

func (n size) String() string {
	for _, u := range units {
		if n >= u.bytes && n%u.bytes == 0 {
			return fmt.Sprintf("%d %s", n/u.bytes, u.name)
		}
	}
	return "0 B"
}

// eventLevel is the lowest level of events that are published; or none are.
type eventLevel struct {
	from event.Level
	none bool
}

func (l *eventLevel) UnmarshalText(text []byte) error {
	if string(text) == "none" {
		*l = eventLevel{none: true}
		return nil
	}
	from, ok := event.ParseLevel(string(text))
	if !ok {
		return fmt.Errorf("%q is not a level: write a name like WEIRD, a number, or none", text)
	}
	*l = eventLevel{from: from}
	return nil
}

func (l eventLevel) String() string {
	if l.none {
		return "none"
	}
	return l.from.String()
}
