package rpc

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A TubID names a Tub by its key: the SHA-1 of its certificate in base32, 32
// lower case characters. Two Tubs are the same if their TubIDs are equal.
type TubID string

const tubIDLen = 32 // characters of a TubID; what a FURL has after them is reserved and ignored

// A FURL says which object in which Tub, and where that Tub may be found. It
// is unguessable, and whoever has it may use the object: print it only where
// the permission itself is meant to go. In logs and errors use [FURL.Masked].
//
// Spec: foolscap-wire.md section 1.2.
type FURL struct {
	Tub   TubID
	Hints []string // "tcp:host:port", "host:port", "TYPE:anything"; none is legal
	Name  string   // swissnum, or any name the owner chose; may contain "/"
}

// ErrBadFURL is wrapped by every error of [ParseFURL].
var ErrBadFURL = errors.New("not a FURL")

// ParseFURL reads a FURL. Text before "pb://" and after the first line is
// ignored, and there is no limit on its length. The error never shows s, which
// may be most of a permission.
func ParseFURL(s string) (FURL, error) {
	_, rest, _ := strings.Cut(s, "pb://")
	tub, rest, _ := strings.Cut(rest, "@")
	list, name, ok := strings.Cut(rest, "/")
	name, _, _ = strings.Cut(name, "\n")
	if tub == "" || !ok || name == "" {
		return FURL{}, fmt.Errorf("rpc: %w: it has not the form pb://TUBID@HINTS/NAME", ErrBadFURL)
	}
	f := FURL{Tub: TubID(tub[:min(len(tub), tubIDLen)]), Name: strings.TrimRight(name, "\r\t ")}
	if i := strings.IndexFunc(string(f.Tub), notBase32); i >= 0 {
		return FURL{}, fmt.Errorf("rpc: %w: the TubID has %q, which is not base32", ErrBadFURL, f.Tub[i])
	}
	if f.Name == "" {
		return FURL{}, fmt.Errorf("rpc: %w: the name is empty", ErrBadFURL)
	}
	hints, err := parseHints(list)
	if err != nil {
		return FURL{}, fmt.Errorf("rpc: %w: %v", ErrBadFURL, err)
	}
	f.Hints = hints
	return f, nil
}

func notBase32(c rune) bool {
	return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '2' && c <= '7')
}

// parseHints splits a list of hints as it stands in a FURL or a location file.
func parseHints(s string) ([]string, error) {
	if s == "" {
		return nil, nil
	}
	hints := strings.Split(s, ",")
	if slices.Contains(hints, "") {
		return nil, errors.New("no connection hint may be empty")
	}
	return hints, nil
}

// String returns the whole FURL: the permission.
func (f FURL) String() string {
	return "pb://" + string(f.Tub) + "@" + strings.Join(f.Hints, ",") + "/" + f.Name
}

// Masked returns the FURL without what makes it a permission, for logs and
// errors: pb://TUBID@…
func (f FURL) Masked() string { return "pb://" + string(f.Tub) + "@…" }

// LogValue keeps the permission out of logs.
func (f FURL) LogValue() slog.Value { return slog.StringValue(f.Masked()) }

// IsZero reports whether f is no FURL at all.
func (f FURL) IsZero() bool { return f.Tub == "" && f.Name == "" && len(f.Hints) == 0 }

// Same reports whether f and g denote the same object. Hints do not count.
func (f FURL) Same(g FURL) bool { return f.Tub == g.Tub && f.Name == g.Name }

// MarshalText and UnmarshalText make a FURL usable in configuration files.
func (f FURL) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

func (f *FURL) UnmarshalText(text []byte) (err error) {
	*f, err = ParseFURL(string(text))
	return err
}

// legacyHint is "host:port" without a type, as old FURLs have it.
var legacyHint = regexp.MustCompile(`^([A-Za-z.0-9-]+):(\d+)$`)

// splitHint returns a hint's type and what follows it.
func splitHint(hint string) (kind, rest string) {
	if legacyHint.MatchString(hint) {
		return "tcp", hint
	}
	kind, rest, _ = strings.Cut(hint, ":")
	return kind, rest
}

var dnsName = regexp.MustCompile(`^[A-Za-z.0-9-]+$`)

// parseTCP reads what follows "tcp:" in a hint and returns the host without
// brackets and the address to dial.
func parseTCP(rest string) (host, address string, err error) {
	host, port, err := net.SplitHostPort(rest)
	if err != nil {
		return "", "", errors.New("it has not the form tcp:HOST:PORT")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", "", fmt.Errorf("%q is no port", port)
	}
	if !dnsName.MatchString(host) {
		if _, err := netip.ParseAddr(host); err != nil {
			return "", "", fmt.Errorf("%q is neither a host name nor an address", host)
		}
	}
	return host, net.JoinHostPort(host, port), nil
}
