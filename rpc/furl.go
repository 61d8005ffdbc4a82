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

// A TubID identifies a Tub by its certificate: the SHA-1 in base32, 32 lower-case
// characters. Two Tubs are the same if their TubIDs are equal.
type TubID string

const tubIDLen = 32 // characters of a TubID; a FURL may have more, which are reserved and ignored

// A FURL names an object in a Tub, with hints where that Tub listens. It is a
// permission: its holder may call the object. Print a FURL only to pass the
// permission on; use [FURL.Masked] in logs and errors.
//
// Spec: foolscap-wire.md section 1.2.
type FURL struct {
	Tub   TubID
	Hints []string // "tcp:host:port", "host:port", "TYPE:anything"; may be empty
	Name  string   // a swissnum, or any name that the owner chose; may contain "/"
}

// ErrBadFURL is wrapped by every error of [ParseFURL].
var ErrBadFURL = errors.New("not a FURL")

// ParseFURL reads a FURL of any length. It ignores text before "pb://" and after
// the first line that follows. The error wraps [ErrBadFURL] and does not show s,
// which may be a permission.
func ParseFURL(s string) (FURL, error) {
	_, rest, _ := strings.Cut(s, "pb://")
	tub, rest, _ := strings.Cut(rest, "@")
	list, name, ok := strings.Cut(rest, "/")
	name, _, _ = strings.Cut(name, "\n")
	if tub == "" || !ok || name == "" {
		return FURL{}, fmt.Errorf("rpc: %w: it does not have the form pb://TUBID@HINTS/NAME", ErrBadFURL)
	}
	f := FURL{Tub: TubID(tub[:min(len(tub), tubIDLen)]), Name: strings.TrimRight(name, "\r\t ")}
	if i := strings.IndexFunc(string(f.Tub), notBase32); i >= 0 {
		return FURL{}, fmt.Errorf("rpc: %w: the TubID contains %q, which is not base32", ErrBadFURL, f.Tub[i])
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

// parseHints splits the list of hints of a FURL or a location file.
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

// String returns the whole FURL, which is the permission.
func (f FURL) String() string {
	return "pb://" + string(f.Tub) + "@" + strings.Join(f.Hints, ",") + "/" + f.Name
}

// Masked returns pb://TUBID@…, for logs and errors.
func (f FURL) Masked() string { return "pb://" + string(f.Tub) + "@…" }

// LogValue returns the masked FURL, so that logs do not hold the permission.
func (f FURL) LogValue() slog.Value { return slog.StringValue(f.Masked()) }

// IsZero reports whether f is the zero FURL.
func (f FURL) IsZero() bool { return f.Tub == "" && f.Name == "" && len(f.Hints) == 0 }

// Same reports whether f and g name the same object. Hints do not matter.
func (f FURL) Same(g FURL) bool { return f.Tub == g.Tub && f.Name == g.Name }

// MarshalText returns the whole FURL, for configuration files.
func (f FURL) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText is [ParseFURL].
func (f *FURL) UnmarshalText(text []byte) (err error) {
	*f, err = ParseFURL(string(text))
	return err
}

// legacyHint is "host:port" without a type, the form of old FURLs.
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

// parseTCP parses what follows "tcp:" in a hint. It returns the host without
// brackets and the address to dial.
func parseTCP(rest string) (host, address string, err error) {
	host, port, err := net.SplitHostPort(rest)
	if err != nil {
		return "", "", errors.New("it does not have the form tcp:HOST:PORT")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", "", fmt.Errorf("%q is not a port", port)
	}
	if !dnsName.MatchString(host) {
		if _, err := netip.ParseAddr(host); err != nil {
			return "", "", fmt.Errorf("%q is neither a host name nor an address", host)
		}
	}
	return host, net.JoinHostPort(host, port), nil
}
