package tail_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/flogtool/flogtool/tail"
)

func TestParseTarget(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const furl = "pb://6wz7odzytw7yy6sfhfxtulw2azhdvmzk@tcp:127.0.0.1:1/gyqgwgmbnplg2csvpyqbgzf7vmpxjcjw"
	for text, want := range map[string]string{
		furl:                              "",
		write("a.furl", "\n "+furl+" \n"): "",
		"pb://nothing":                    "FURL",
		write("b.furl", "nothing"):        "can't use tail target",
		filepath.Join(dir, "missing"):     "not a FURL",
		t.TempDir():                       "has no logport.furl",
	} {
		target, err := tail.ParseTarget(text)
		switch {
		case want == "" && (err != nil || target.FURL.String() != furl):
			t.Errorf("ParseTarget(%q) = %v, %v", text, target, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("ParseTarget(%q): %v, want %q", text, err, want)
		}
	}
}
