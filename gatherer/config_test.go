package gatherer

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flogtool/flogtool/gatherer/eventlog"
)

var update = flag.Bool("update", false, "rewrite the copies in docs/")

// TestSettingsText: the file that Create writes has all defaults, and its copy in the
// documentation is equal.
func TestSettingsText(t *testing.T) {
	text := defaults().text()
	got, err := parseSettings(text)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(defaults(), got, cmp.AllowUnexported(eventLevel{})); diff != "" {
		t.Errorf("the text of the defaults reads as something else (-want +got):\n%s", diff)
	}
	doc := filepath.Join("..", "docs", settingsFile)
	if *update {
		if err := os.WriteFile(doc, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	shown, err := os.ReadFile(doc)
	if err != nil || string(shown) != string(text) {
		t.Errorf("%s is not what the program writes (%v): run `go test ./gatherer -run TestSettingsText -update`", doc, err)
	}
}

func TestParseSettings(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"unknown name", "jobs = [\"logs\"]\n[logs]\nrotat = \"1h\"\n", `line 3, column 1: there is no setting "logs.rotat"`},
		{"not TOML", "jobs = [\"logs\"\n[logs]", "line 2, column"},
		{"bad duration", "[logs]\nrotate = \"daily\"\n", `line 2, column 10: "daily" is not a duration: write it like 1h30m, 90s`},
		{"bad size", "[incidents]\nmax_size = \"many\"\n", `"many" is not a size`},
		{"size over all bounds", "[incidents]\nmax_size = \"99999999999 GiB\"\n", "is not a size"},
		{"bad level", "[nats]\nevents = \"LOUD\"\n", `"LOUD" is not a level`},
		{"no job", "jobs = []\n", "jobs is empty"},
		{"unknown job", "jobs = [\"mail\"]\n", `there is no job "mail"`},
		{"unknown compression", "[logs]\ncompress = \"rar\"\n", `logs.compress is "rar"`},
		{"two servers", "[nats]\nurl = \"nats://h\"\nlisten = \"127.0.0.1:4222\"\n", "set one of them"},
		{"user without password", "[nats]\nuser = \"u\"\n", "go together"},
		{"rotation all the time", "[logs]\nrotate = \"1ms\"\n", "a second or more"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parseSettings([]byte(tt.text))
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("parseSettings = %v, want one line with %q", err, tt.want)
			}
		})
	}
}

// TestParseTac reads files that the original wrote; see testdata/original.
func TestParseTac(t *testing.T) {
	for _, tt := range []struct {
		file, job, compress string
		rotate              time.Duration
	}{
		{"log-gatherer.tac", jobLogs, eventlog.None, 0},
		{"log-gatherer-rotate-bzip.tac", jobLogs, eventlog.Bzip2, time.Minute},
		{"incident-gatherer.tac", jobIncidents, eventlog.None, 0},
	} {
		t.Run(tt.file, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join("testdata", "original", tt.file))
			if err != nil {
				t.Fatal(err)
			}
			s, err := parseTac(text)
			if err != nil {
				t.Fatal(err)
			}
			if len(s.Jobs) != 1 || s.Jobs[0] != tt.job || s.Logs.Compress != tt.compress || time.Duration(s.Logs.Rotate) != tt.rotate {
				t.Errorf("parseTac = jobs %q, compress %q, rotate %v; want %q, %q, %v",
					s.Jobs, s.Logs.Compress, s.Logs.Rotate, tt.job, tt.compress, tt.rotate)
			}
		})
	}
	for _, tt := range []struct{ name, text, want string }{
		{"a program", "rotate = __import__('os').system('x')\ngs = gatherer.GathererService(rotate, False)\n", "rotate = __import__"},
		{"another daemon", "application = service.Application('x')\n", "no line makes a GathererService"},
		{"only in a comment", "# gs = gatherer.GathererService(1, 2)\n", "no line makes a GathererService"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := parseTac([]byte(tt.text)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("parseTac = %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func TestDurationText(t *testing.T) {
	for text, want := range map[string]string{"0s": "0s", "60s": "1m", "90s": "1m30s", "24h": "24h", "1h30m": "1h30m", "1s": "1s"} {
		var d duration
		if err := d.UnmarshalText([]byte(text)); err != nil || d.String() != want {
			t.Errorf("%q reads as %v, %v; want %q", text, d, err, want)
		}
	}
}
