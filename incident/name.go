package incident

import (
	"crypto/rand"
	"encoding/base32"
	"strings"
	"time"
)

// nameTime is the layout of the time in an incident's name; flogfile.md
// section 4.
const nameTime = "2006-01-02--15-04-05Z"

// An incident's name ends in 7 base32 digits of 4 bytes: 32 bits in 35, so the
// last digit is one of a, i, q, y.
const suffixLen = 7

var base32Lower = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// NextName returns a name for an incident that begins now, greater as a string
// than last, which is the directory's last name or "". Original gatherers ask
// for "names greater than", so a clock that went back must not count: the time
// in the name is the later of now and last's, and within one second the suffix
// ascends.
func NextName(last string, now time.Time) string {
	stamp := now.UTC().Format(nameTime)
	name := "incident-" + stamp + "-" + randomSuffix()
	if name > last {
		return name
	}
	stamp, suffix, ok := splitName(last)
	if !ok {
		// A foreign name that sorts above every honest one: nothing can be
		// greater and well formed, so the order is lost for that one name.
		return name
	}
	var step [1]byte
	rand.Read(step[:]) // names stay hard to guess within a second, too
	if next, ok := stepSuffix(suffix, 1+int(step[0])); ok {
		return "incident-" + stamp + "-" + next
	}
	t, err := time.Parse(nameTime, stamp)
	if err != nil {
		return name
	}
	// The suffixes of that second are used up: take the next second.
	return "incident-" + t.Add(time.Second).Format(nameTime) + "-" + randomSuffix()
}

// randomSuffix begins with one of a to p, so that many thousands of names fit
// above any first one in its second.
func randomSuffix() string {
	var b [4]byte
	rand.Read(b[:])
	b[0] &= 0x7f
	return base32Lower.EncodeToString(b[:])
}

// textOrder is the base32 alphabet in the order of its bytes.
const textOrder = "234567abcdefghijklmnopqrstuvwxyz"

// stepSuffix adds n to s, read as a number whose digits are ordered as text; ok
// is false if that needs more digits. The last digit has four values (see
// suffixLen), in order a, i, q, y.
func stepSuffix(s string, n int) (next string, ok bool) {
	d := []byte(s)
	last := strings.IndexByte("aiqy", d[suffixLen-1])
	if last < 0 {
		last = 3
	}
	n += last
	d[suffixLen-1] = "aiqy"[n%4]
	n /= 4
	for i := suffixLen - 2; i >= 0 && n > 0; i-- {
		n += strings.IndexByte(textOrder, d[i])
		d[i] = textOrder[n%32]
		n /= 32
	}
	return string(d), n == 0
}

// splitName returns the time and the suffix in an incident's name.
func splitName(name string) (stamp, suffix string, ok bool) {
	rest, ok := strings.CutPrefix(name, "incident-")
	if !ok || len(rest) != len(nameTime)+1+suffixLen {
		return "", "", false
	}
	stamp, suffix = rest[:len(nameTime)], rest[len(nameTime)+1:]
	if rest[len(nameTime)] != '-' || strings.Trim(suffix, textOrder) != "" {
		return "", "", false
	}
	_, err := time.Parse(nameTime, stamp)
	return stamp, suffix, err == nil
}

// ValidName reports whether name may become a file's name: `incident`, then
// letters, digits, `-`, `_` and `.`, at most 128 bytes in all, and no ending
// that files add. A peer may claim any name; only such a one is used. Names of
// another form than ours are let through, since the original takes them too.
func ValidName(name string) bool {
	if !strings.HasPrefix(name, "incident") || len(name) > 128 {
		return false
	}
	for i := range len(name) {
		c := name[i]
		ok := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.'
		if !ok {
			return false
		}
	}
	for _, ending := range []string{".flog", ".bz2", ".zst", ".gz", ".tmp", "."} {
		if strings.HasSuffix(name, ending) {
			return false
		}
	}
	return true
}

// NamePrefix returns a text that sorts after the names of all incidents that began
// before the second of t, and before those of that second.
func NamePrefix(t time.Time) string { return "incident-" + t.UTC().Format(nameTime) }

// NameTime returns the time in an incident's name, the zero time if it has none.
func NameTime(name string) time.Time {
	stamp, _, _ := splitName(name)
	t, _ := time.Parse(nameTime, stamp)
	return t
}
