package flogtool_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/flogtool/flogtool/"

// order is the project's packages from the outside in. A package imports only
// what stands below it, so that what is to be understood first stands last.
var order = []string{
	"cmd/", "bench", "examples/",
	"cmd/internal/cli", "cmd/internal/shortopt", "cmd/internal/clitest",
	"gatherer", "gatherer/collect", "gatherer/pipeline", "gatherer/bus", "gatherer/archive", "gatherer/eventlog",
	"tail", "tail/web", "tail/natstail", "tail/progress",
	"classify",
	"logport/natspub", "logport/loghttp", "logport/logotel", "logport",
	"logport/internal/publish", "logport/internal/ring", "logport/wire",
	"incident",
	"event/flogfile/bzip2", "event/flogfile", "event/filter", "event/pytext", "event", "event/internal/pyrepr",
	"rpc/appserver", "rpc/foolscaptest", "rpc", "rpc/banana",
	"internal/costtest", "internal/testwait", "internal/durable/durabletest", "internal/durable",
	"rules",
}

// links are the rules about whole programs: what a package must not reach,
// by whatever way, because others link it. Packages are given by prefix, or
// exactly with a $ at the end.
var links = []struct {
	packages, except []string // without the module's path
	banned           []string
	why              string
}{
	{
		packages: []string{"rpc"},
		banned:   []string{module + "event", module + "incident", module + "logport"},
		why:      "rpc knows nothing of logs",
	},
	{
		packages: []string{"logport"},
		except:   []string{"logport/natspub", "logport/loghttp"},
		banned:   []string{"github.com/nats-io/", "net/http", "database/sql"},
		why:      "applications link it",
	},
	{
		packages: []string{"tail", "classify", "gatherer/", "logport/wire"},
		banned:   []string{module + "logport/internal/ring"},
		why:      "a program that only reads does not link the rings",
	},
	{
		packages: []string{""},
		except:   []string{"event/flogfile/bzip2", "gatherer$", "gatherer/eventlog$", "tail", "cmd/", "bench", "examples/"},
		banned:   []string{"github.com/dsnet/compress"},
		why:      "bzip2 is written for old readers only, by tail and gatherer/eventlog",
	},
	{
		packages: []string{""},
		except:   []string{"gatherer$", "gatherer/bus$", "tail/natstail", "logport/natspub", "cmd/flogtool", "examples/"},
		banned:   []string{"github.com/nats-io/"},
		why:      "NATS belongs to the gatherer and to who asks for it by name",
	},
	{
		packages: []string{""},
		except:   []string{"gatherer", "cmd/flogtool"},
		banned: []string{
			"github.com/nats-io/nats-server/", "modernc.org/", "github.com/prometheus/", "github.com/wneessen/",
		},
		why: "the broker, the index, metrics and mail belong to the daemon",
	},
	{
		packages: []string{"gatherer/"},
		banned:   []string{module + "logport$", module + "logport/internal/ring"},
		why:      "of the gatherer, only the daemon itself may have a recorder",
	},
}

// imports are the packages that only some may import directly.
var imports = []struct {
	imported string   // by prefix
	by       []string // as in links
	why      string
}{
	{"github.com/nats-io/nats-server/", []string{"gatherer/bus$"}, "one package knows the broker"},
	{module + "event/flogfile/bzip2", []string{"tail", "gatherer/eventlog$", "cmd/"}, "bzip2 is written for old readers only"},
}

// logportModules are the only modules that an application links with logport.
var logportModules = []string{
	module, "github.com/expr-lang/expr", "github.com/klauspost/compress", "golang.org/x/sys",
}

// TestDependencies keeps "who links what": what an import would cost is decided
// here, not noticed a year later in somebody's binary.
func TestDependencies(t *testing.T) {
	const format = `{{.ImportPath}}|{{join .Imports " "}}|{{join .Deps " "}}`
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", format, "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	packages := 0
	for line := range strings.Lines(string(out)) {
		part := strings.Split(strings.TrimSpace(line), "|")
		name, ours := strings.CutPrefix(part[0], module)
		if !ours {
			continue // this package: tests alone
		}
		packages++
		place, ok := rank(name)
		if !ok {
			t.Errorf("%s has no place in the order of packages", name)
			continue
		}
		for imported := range strings.FieldsSeq(part[1]) {
			below, ours := strings.CutPrefix(imported, module)
			if !ours {
				continue
			}
			if !slices.Contains(order[place+1:], below) {
				t.Errorf("%s imports %s: imports point down the order of packages", name, below)
			}
		}
		for imported := range strings.FieldsSeq(part[1]) {
			for _, rule := range imports {
				if strings.HasPrefix(imported, rule.imported) && !hasPrefix(name, rule.by) {
					t.Errorf("%s must not import %s: %s", name, imported, rule.why)
				}
			}
		}
		for _, rule := range links {
			if !hasPrefix(name, rule.packages) || hasPrefix(name, rule.except) {
				continue
			}
			for dep := range strings.FieldsSeq(part[2]) {
				if hasPrefix(dep, rule.banned) {
					t.Errorf("%s must not reach %s: %s", name, dep, rule.why)
				}
			}
		}
		if name == "logport" {
			for dep := range strings.FieldsSeq(part[2]) {
				if first, _, _ := strings.Cut(dep, "/"); strings.Contains(first, ".") && !hasPrefix(dep, logportModules) {
					t.Errorf("logport must not reach %s: applications link it", dep)
				}
			}
		}
	}
	if packages == 0 {
		t.Fatal("no packages: this test would pass and test nothing")
	}
}

// rank returns the place in order of the package name; commands and examples
// have theirs by their folder.
func rank(name string) (int, bool) {
	for i, p := range order {
		if name == p || strings.HasSuffix(p, "/") && strings.HasPrefix(name, p) {
			return i, true
		}
	}
	return 0, false
}

// hasPrefix reports whether s begins with one of prefixes, or is one of those that
// end in $.
func hasPrefix(s string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool {
		if exact, ok := strings.CutSuffix(p, "$"); ok {
			return s == exact
		}
		return strings.HasPrefix(s, p)
	})
}
