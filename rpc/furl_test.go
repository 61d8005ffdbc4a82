package rpc_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/flogtool/flogtool/rpc"
)

const someTub = "erwdcujit2qy4lfpzzo4xzovhvcwsurk"

func TestParseFURL(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	for _, tt := range []struct {
		in   string
		want rpc.FURL
	}{
		{"pb://" + someTub + "@tcp:h:1/name", rpc.FURL{Tub: someTub, Hints: []string{"tcp:h:1"}, Name: "name"}},
		{"pb://" + someTub + "@h:1,tcp:[::1]:2,i2p:x/a/b", rpc.FURL{Tub: someTub, Hints: []string{"h:1", "tcp:[::1]:2", "i2p:x"}, Name: "a/b"}},
		{"pb://" + someTub + "@/name", rpc.FURL{Tub: someTub, Name: "name"}},
		{"junk pb://" + someTub + "reserved@h:1/name\nmore", rpc.FURL{Tub: someTub, Hints: []string{"h:1"}, Name: "name"}},
		{"pb://" + someTub + "@h:1/" + long, rpc.FURL{Tub: someTub, Hints: []string{"h:1"}, Name: long}},
		{"pb://" + someTub + "@h:1/name \r\n", rpc.FURL{Tub: someTub, Hints: []string{"h:1"}, Name: "name"}},
		{"pb://short@/n", rpc.FURL{}}, // base32 digits, of any number
	} {
		got, err := rpc.ParseFURL(tt.in)
		if tt.want.IsZero() {
			tt.want = rpc.FURL{Tub: "short", Name: "n"}
		}
		if err != nil || got.String() != tt.want.String() || !got.Same(tt.want) {
			t.Errorf("ParseFURL(%.80q) = %+v, %v", tt.in, got.Masked(), err)
		}
	}
	for _, in := range []string{
		"", "nonsense", "http://x/y", "pb://", "pb://a", "pb://@h:1/n", "pb://a@h:1", "pb://a@h:1/", "pbu://h:1/n",
		"pb://a@,h:1/n", "pb://a@h:1,/n", "pb://not base32@h:1/n", "pb://0189@h:1/n",
	} {
		f, err := rpc.ParseFURL(in)
		if !errors.Is(err, rpc.ErrBadFURL) {
			t.Errorf("ParseFURL(%q) = %+v, %v; want ErrBadFURL", in, f, err)
		}
	}
	secret := "verysecretname"
	if _, err := rpc.ParseFURL("pb://0189@h:1/" + secret); err == nil || strings.Contains(err.Error(), secret) {
		t.Errorf("the error shows the permission: %v", err)
	}
}

func TestRegister(t *testing.T) {
	tub := newTub(t, rpc.Config{})
	obj := newTarget()
	if _, err := tub.Register(obj, ""); !errors.Is(err, rpc.ErrNoLocation) {
		t.Errorf("without a location: %v", err)
	}
	for _, bad := range []string{"", "a,,b", "tcp:h:1/x", "a\nb"} {
		if err := tub.SetLocation(bad); err == nil {
			t.Errorf("SetLocation(%q) was accepted", bad)
		}
	}
	if err := tub.SetLocation("tcp:h:1,tcp:[::1]:2"); err != nil {
		t.Fatal(err)
	}
	f := register(t, tub, obj, "")
	if len(f.Name) != 32 || f.Tub != tub.ID() || len(f.Hints) != 2 || tub.Location() != "tcp:h:1,tcp:[::1]:2" {
		t.Errorf("FURL %v", f)
	}
	if g := register(t, tub, obj, "other"); g.Name != f.Name {
		t.Error("an object that is registered got another name")
	}
	if _, err := tub.Register(newTarget(), f.Name); err == nil {
		t.Error("one name for two objects was accepted")
	}
	if _, err := tub.Register(uncomparable{}, ""); err == nil {
		t.Error("an object that cannot be compared was accepted")
	}
}

type uncomparable struct{ _ []int }

func (uncomparable) Interface() string             { return "" }
func (uncomparable) Invoke(*rpc.Call) (any, error) { return nil, nil }

func TestRegisterFile(t *testing.T) {
	key := filepath.Join(t.TempDir(), "tub.pem")
	file := filepath.Join(t.TempDir(), "object.furl")
	var first rpc.FURL
	for i, location := range []string{"tcp:h:1", "tcp:other:2"} {
		tub := newTub(t, rpc.Config{KeyFile: key})
		if err := tub.SetLocation(location); err != nil {
			t.Fatal(err)
		}
		f, err := tub.RegisterFile(newTarget(), file)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = f
			if st, _ := os.Stat(file); st.Mode().Perm() != 0o600 {
				t.Errorf("a new furl file has mode %v", st.Mode())
			}
			if err := os.Chmod(file, 0o640); err != nil {
				t.Fatal(err)
			}
		} else if !f.Same(first) || f.Hints[0] != "tcp:other:2" {
			t.Errorf("the FURL did not last: %v, then %v", first, f)
		}
		if text, _ := os.ReadFile(file); string(text) != f.String()+"\n" {
			t.Errorf("the file holds %q", text)
		}
		if _, err := tub.RegisterFileName(newTarget(), file, "chosen"); !errors.Is(err, rpc.ErrWrongName) {
			t.Errorf("another name: %v", err)
		}
	}
	if st, _ := os.Stat(file); st.Mode().Perm() != 0o640 {
		t.Errorf("the mode of an existing file became %v", st.Mode())
	}
	stranger := newServer(t, rpc.Config{})
	if _, err := stranger.RegisterFile(newTarget(), file); !errors.Is(err, rpc.ErrWrongTub) {
		t.Errorf("another Tub's file: %v", err)
	}
	if err := os.WriteFile(file, []byte("# a comment\n"+first.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if f, err := rpc.ReadFURLFile(file); err != nil || !f.Same(first) {
		t.Errorf("ReadFURLFile: %v, %v", f.Masked(), err)
	}
	if err := os.WriteFile(file, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := rpc.ReadFURLFile(file); !errors.Is(err, rpc.ErrBadFURL) || !strings.Contains(err.Error(), file) {
		t.Errorf("a file that holds none: %v", err)
	}
}

// TestFURLFiles: a FURL in a comment is ignored, whatever else the file holds.
func TestFURLFiles(t *testing.T) {
	a, b := "pb://"+strings.Repeat("a", 32)+"@tcp:127.0.0.1:1/first", "pb://"+strings.Repeat("b", 32)+"@tcp:127.0.0.1:2/second"
	for _, tt := range []struct {
		text    string
		one     string // "": ErrBadFURL
		many    []string
		badLine string // "": no error
	}{
		{a + "\n", a, []string{a}, ""},
		{a, a, []string{a}, ""},
		{"# " + a + "\n\n " + b + " \r\n", b, []string{b}, ""},
		{"#" + a + "\n", "", nil, ""},
		{"", "", nil, ""},
		{a + "\n" + b + "\n", a, []string{a, b}, ""},
		{"a note\n" + a + "\n", a, []string{a}, "line 1"},
		{"old: " + b + "\n" + a + "\n", a, []string{a}, "line 1"},
		{a + "\npb://no\n" + b + "\nnonsense", a, []string{a, b}, "line 2"},
	} {
		file := filepath.Join(t.TempDir(), "some.furl")
		if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := rpc.ReadFURLFile(file)
		if tt.one != "" && (err != nil || f.String() != tt.one) || tt.one == "" && (!errors.Is(err, rpc.ErrBadFURL) || !strings.Contains(err.Error(), file)) {
			t.Errorf("ReadFURLFile of %q = %v, %v; want %q", tt.text, f.Masked(), err, tt.one)
		}
		furls, err := rpc.ReadFURLs(file)
		var got []string
		for _, f := range furls {
			got = append(got, f.String())
		}
		if !slices.Equal(got, tt.many) {
			t.Errorf("ReadFURLs of %q = %q, want %q", tt.text, got, tt.many)
		}
		if tt.badLine == "" && err != nil ||
			tt.badLine != "" && (!errors.Is(err, rpc.ErrBadFURL) || !strings.Contains(err.Error(), tt.badLine) || strings.Contains(err.Error(), "second")) {
			t.Errorf("ReadFURLs of %q: error %v, want one about %q", tt.text, err, tt.badLine)
		}
	}
	absent := filepath.Join(t.TempDir(), "absent")
	if _, err := rpc.ReadFURLFile(absent); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("ReadFURLFile of no file: %v", err)
	}
	if _, err := rpc.ReadFURLs(absent); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("ReadFURLs of no file: %v", err)
	}
}

func TestLookup(t *testing.T) {
	obj := newTarget()
	server := newServer(t, rpc.Config{Lookup: func(name string, p rpc.Peer) rpc.Object {
		if name == "dynamic" && p.TubID() != "" {
			return obj
		}
		return nil
	}})
	f := register(t, server, newTarget(), "static")
	client := newTub(t, rpc.Config{})
	for name, ok := range map[string]bool{"static": true, "dynamic": true, "neither": false} {
		f.Name = name
		_, err := client.Connect(within(t), f)
		if (err == nil) != ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	server.Unregister("static")
	f.Name = "static"
	if _, err := client.Connect(within(t), f); !errors.Is(err, rpc.RemoteType("builtins.KeyError")) {
		t.Errorf("unregistered: %v", err)
	}
}

func TestListenEndpoints(t *testing.T) {
	tub := newTub(t, rpc.Config{})
	for _, good := range []string{"tcp:0", "tcp:0:interface=127.0.0.1", "tcp:127.0.0.1:0", "127.0.0.1:0"} {
		if _, err := tub.Listen(good); err != nil {
			t.Errorf("Listen(%q): %v", good, err)
		}
	}
	for _, bad := range []string{"", "tcp:", "tcp:x", "tcp:99999", "tcp:a:b:c", "unix:/x"} {
		if _, err := tub.Listen(bad); err == nil {
			t.Errorf("Listen(%q) was accepted", bad)
		}
	}
}
