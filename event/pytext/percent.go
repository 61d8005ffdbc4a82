package pytext

import (
	"errors"
	"math"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/flogtool/flogtool/event"
	"github.com/flogtool/flogtool/event/internal/pyrepr"
)

// mapping is a whole event as the one value of a pattern.
type mapping struct{ event.View }

var (
	errFormat = errors.New("pytext: format does not fit its values") // the caller shows the pattern
	errSpent  = errors.New("pytext: format costs too much")          // the text is cut
)

// A directive may cost more than the text that it adds: a precision cuts a long value,
// and a field is searched among all fields. maxWork bounds what all directives of one
// text cost, in the time that a byte of plain text takes.
const (
	maxWork       = 8 << 20   // of a text of MaxText bytes; of a shorter one less
	minWork       = 512 << 10 // of a text of 64 KiB or less: a few milliseconds
	directiveWork = 16
	decodeWork    = 4 // for a byte of JSON that is not text
	escapedWork   = 8 // for a field whose key may have escapes, which searching decodes
)

// percent is one evaluation of Python's % operator.
type percent struct {
	dst     []byte
	end     int // length of dst beyond which nothing is needed
	work    int // what may still be spent
	pattern string
	pos     int

	named  event.View  // the fields of the one value, nil if it has none
	search int         // the work of finding one of these fields
	json   rawView     // named, if it is JSON, else nil
	raw    rawView     // named, if it is plain JSON, else nil
	tuple  event.Tuple // the values, if they are a tuple
	next   int         // index in tuple of the next value
	single any         // the one value, if they are not a tuple
	isOne  bool        // they are not a tuple
	used   bool        // a directive took the one value
}

// appendPercent appends pattern % values up to end, or little more. It checks the rest
// without making its text. After errFormat it returns dst unchanged, after errSpent what
// it appended.
func appendPercent(dst []byte, end int, pattern string, values any) ([]byte, error) {
	work := max(minWork, maxWork/MaxText*(end-len(dst)))
	p := percent{dst: dst, end: end, work: work, pattern: pattern}
	switch v := values.(type) {
	case event.Tuple:
		p.tuple = v
	case mapping:
		p.named, p.isOne = v.View, true
		p.single = v
		switch view := v.View.(type) {
		case *event.Event:
			p.search = len(view.Fields)
		case rawView:
			p.json, p.search = view, view.NumFields()
			if view.Plain() {
				p.raw = view
			} else {
				p.search *= escapedWork
			}
		}
	case event.Dict:
		p.named, p.isOne = dictView(v), true
		p.single = v
		p.search = len(v)
	default:
		p.single, p.isOne = v, true
	}
	for {
		i := strings.IndexByte(p.pattern[p.pos:], '%')
		if i < 0 {
			break
		}
		p.dst = appendPart(p.dst, p.end, p.pattern[p.pos:p.pos+i])
		p.pos += i + 1
		if !p.directive() {
			return dst, errFormat
		}
		if p.work -= directiveWork; p.work < 0 {
			return p.dst, errSpent
		}
		p.dst = p.dst[:min(len(p.dst), p.end+1)]
	}
	p.dst = appendPart(p.dst, p.end, p.pattern[p.pos:])
	// Values that no directive takes are an error, unless there is one value and it
	// is a container.
	if !p.isOne {
		if p.next < len(p.tuple) {
			return dst, errFormat
		}
	} else if _, list := p.single.([]any); !p.used && p.named == nil && !list {
		return dst, errFormat
	}
	return p.dst, nil
}

// dictView is a dict that an event has as its args.
type dictView event.Dict

func (d dictView) Get(key string) (any, bool) {
	for i := range d {
		if k, ok := d[i].Key.(string); ok && k == key {
			return d[i].Value, true
		}
	}
	return nil, false
}

func (d dictView) Dict() event.Dict { return event.Dict(d) }

// flags are the flags, the width and the precision of a directive.
type flags struct {
	alt, zero, left, blank, plus bool
	width                        int
	prec                         int // -1 if not given
}

const maxWidth = 1 << 16 // width and precision, in code points: a hostile pattern asks for more

// take returns the next positional value.
func (p *percent) take() (any, bool) {
	if !p.isOne {
		if p.next == len(p.tuple) {
			return nil, false
		}
		p.next++
		return p.tuple[p.next-1], true
	}
	if p.used {
		return nil, false
	}
	p.used = true
	if m, ok := p.single.(mapping); ok {
		return m.Dict(), true // once only
	}
	return p.single, true
}

// field returns the value of a field. If decoding it is more than what may still be
// spent, it returns nil.
func (p *percent) field(name string) (value any, ok bool) {
	if p.json == nil {
		return p.named.Get(name)
	}
	data, ok := p.json.RawField(name)
	if !ok {
		return nil, false
	}
	if data[0] == '"' {
		p.work -= len(data)
	} else if p.work -= len(data) * decodeWork; p.work < 0 {
		return nil, true
	}
	v, err := event.ParseJSON(data)
	return v, err == nil
}

// quick formats a directive whose name was just read in the most common cases:
// %(name)s of a text or a short whole number, %(name)d of a short whole number,
// %(name).Nf. It reports whether it did.
func (p *percent) quick(name string) bool {
	value, ok := p.raw.RawField(name)
	if !ok || p.pos >= len(p.pattern) {
		return false
	}
	switch p.pattern[p.pos] {
	case 's':
		if value[0] == '"' {
			p.dst = appendPart(p.dst, p.end, value[1:len(value)-1])
			p.pos++
			return true
		}
		fallthrough
	case 'd':
		// JSON has no leading zeros: up to 18 digits are the text of the number.
		if len(value) > 18 || value[0] == '-' {
			return false
		}
		for _, c := range value {
			if c-'0' > 9 {
				return false
			}
		}
		p.dst = append(p.dst, value...)
		p.pos++
		return true
	case '.':
		if p.pos+2 < len(p.pattern) && p.pattern[p.pos+1]-'0' <= 9 && p.pattern[p.pos+2] == 'f' && value[0]-'0' <= 9 {
			v, err := strconv.ParseFloat(string(value), 64)
			if err != nil {
				return false
			}
			p.dst = strconv.AppendFloat(p.dst, v, 'f', int(p.pattern[p.pos+1]-'0'), 64)
			p.pos += 3
			return true
		}
	}
	return false
}

func (p *percent) peek() byte {
	if p.pos < len(p.pattern) {
		return p.pattern[p.pos]
	}
	return 0
}

// directive formats the directive whose percent sign was just read; false if it
// does not fit the values.
func (p *percent) directive() bool {
	if p.peek() == '%' {
		p.pos++
		p.dst = append(p.dst, '%')
		return true
	}
	var value any
	var hasValue, hasName bool
	if p.peek() == '(' {
		name, ok := p.name()
		if !ok || p.named == nil {
			return false
		}
		hasName = true
		p.work -= p.search
		if p.raw != nil && p.quick(name) {
			p.used = true
			return true
		}
		if value, hasValue = p.field(name); !hasValue {
			return false
		}
		p.used = true
		if p.work < 0 {
			return true
		}
	}
	f := flags{prec: -1}
flags:
	for ; ; p.pos++ {
		switch p.peek() {
		case '#':
			f.alt = true
		case '0':
			f.zero = true
		case '-':
			f.left = true
		case ' ':
			f.blank = true
		case '+':
			f.plus = true
		default:
			break flags
		}
	}
	n, given, ok := p.size(hasName)
	if !ok {
		return false
	}
	if given {
		if f.width = n; n < 0 {
			f.left, f.width = true, -n
		}
	}
	if p.peek() == '.' {
		p.pos++
		if n, _, ok = p.size(hasName); !ok {
			return false
		}
		f.prec = max(n, 0)
	}
	if c := p.peek(); c == 'h' || c == 'l' || c == 'L' {
		p.pos++
	}
	if p.pos >= len(p.pattern) {
		return false
	}
	conversion := p.pattern[p.pos]
	p.pos++
	if !hasName {
		if value, hasValue = p.take(); !hasValue {
			return false
		}
	}
	return p.convert(conversion, value, f)
}

// name reads the name in parentheses, which may nest.
func (p *percent) name() (string, bool) {
	depth := 0
	for i := p.pos; i < len(p.pattern); i++ {
		switch p.pattern[i] {
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				name := p.pattern[p.pos+1 : i]
				p.pos = i + 1
				return name, true
			}
		}
	}
	return "", false
}

// size reads a width or a precision: digits, or a star, which takes the next value.
func (p *percent) size(hasName bool) (n int, given, ok bool) {
	if p.peek() == '*' {
		p.pos++
		if p.isOne || hasName {
			return 0, false, false
		}
		v, ok := p.take()
		if !ok {
			return 0, false, false
		}
		if b, isBool := v.(bool); isBool {
			v = int64(0)
			if b {
				v = int64(1)
			}
		}
		wide, isInt := v.(int64)
		if !isInt || wide > maxWidth || wide < -maxWidth {
			return 0, false, false
		}
		return int(wide), true, true
	}
	for ; p.peek()-'0' <= 9; p.pos++ {
		given = true
		if n = n*10 + int(p.peek()-'0'); n > maxWidth {
			return 0, false, false
		}
	}
	return n, given, true
}

func (p *percent) convert(conversion byte, value any, f flags) bool {
	p.work -= f.width + 4*max(f.prec, 0) // some conversions make all digits twice
	if n, ok := value.(*big.Int); ok {
		p.work -= n.BitLen()
	}
	switch conversion {
	case 's', 'r', 'a':
		text, isText := value.(string)
		switch {
		case isText && conversion == 's':
			pad(p, cutRunes(text, f.prec), f)
		case f.width == 0 && f.prec < 0 && conversion != 'a':
			p.dst = p.appendValue(p.dst, p.end, conversion, value)
		default:
			pad(p, p.value(conversion, value, f), f)
		}
		return true
	case 'c':
		r, ok := character(value)
		if !ok {
			return false
		}
		f.zero = false
		pad(p, pyrepr.AppendRune(nil, r), f)
		return true
	case 'd', 'i', 'u':
		if n, ok := value.(int64); ok && f == (flags{prec: -1}) {
			p.dst = strconv.AppendInt(p.dst, n, 10)
			return true
		}
		n, ok := toInt(value, true)
		if !ok {
			return false
		}
		p.integer(n, 10, "", false, f)
		return true
	case 'o', 'x', 'X':
		n, ok := toInt(value, false)
		if !ok {
			return false
		}
		base, prefix := 16, "0x"
		switch conversion {
		case 'o':
			base, prefix = 8, "0o"
		case 'X':
			prefix = "0X"
		}
		p.integer(n, base, prefix, conversion == 'X', f)
		return true
	case 'e', 'E', 'f', 'F', 'g', 'G':
		v, ok := toFloat(value)
		if !ok {
			return false
		}
		p.float(v, conversion, f)
		return true
	}
	return false
}

// appendValue appends a value as %s or %r does, up to end.
func (p *percent) appendValue(dst []byte, end int, conversion byte, value any) []byte {
	a := pyrepr.Appender{Dst: dst, End: end}
	if conversion == 's' {
		a.Str(value)
	} else {
		a.Repr(value)
	}
	p.work -= a.Work
	return a.Dst
}

// value returns the text of a value for %s, %r and %a as far as it is needed.
func (p *percent) value(conversion byte, value any, f flags) []byte {
	// What is beyond the end counts only for the padding: a text as long as the
	// width needs none.
	need := p.end - len(p.dst) + utf8.UTFMax*f.width
	if f.prec >= 0 {
		need = min(need, utf8.UTFMax*f.prec)
	}
	text := p.appendValue(nil, need, conversion, value)
	if conversion == 'a' {
		text = pyrepr.AppendASCII(nil, string(text))
	}
	p.work -= len(text)
	return cutRunes(text, f.prec)
}

// pad appends text, padded with blanks to the width, which is in code points.
func pad[T string | []byte](p *percent, text T, f flags) {
	fill := 0
	if f.width > 0 {
		fill = f.width - runes(text, f.width)
	}
	if f.left {
		p.dst = appendPart(p.dst, p.end, text)
	}
	for ; fill > 0 && len(p.dst) <= p.end; fill-- {
		p.dst = append(p.dst, ' ')
	}
	if !f.left {
		p.dst = appendPart(p.dst, p.end, text)
	}
}

// runes counts the code points of text, which may be WTF-8, up to limit.
func runes[T string | []byte](text T, limit int) int {
	n := 0
	for i := 0; i < len(text) && n < limit; i++ {
		if utf8.RuneStart(text[i]) {
			n++
		}
	}
	return n
}

// cutRunes returns the first n code points of text, all of it if n < 0.
func cutRunes[T string | []byte](text T, n int) T {
	if n < 0 {
		return text
	}
	for i := range len(text) {
		if !utf8.RuneStart(text[i]) {
			continue
		}
		if n == 0 {
			return text[:i]
		}
		n--
	}
	return text
}

func character(value any) (rune, bool) {
	switch v := value.(type) {
	case string:
		if v == "" {
			return 0, false
		}
		r, size := pyrepr.DecodeRune(v)
		return r, size == len(v)
	case bool:
		if v {
			return 1, true
		}
		return 0, true
	case int64:
		return rune(v), v >= 0 && v <= utf8.MaxRune
	}
	return 0, false
}

func toInt(value any, cutFloats bool) (*big.Int, bool) {
	switch v := value.(type) {
	case int64:
		return big.NewInt(v), true
	case *big.Int:
		return v, true
	case bool:
		if v {
			return big.NewInt(1), true
		}
		return new(big.Int), true
	case float64:
		if !cutFloats || math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, false
		}
		n, _ := big.NewFloat(v).Int(nil)
		return n, true
	}
	return nil, false
}

func toFloat(value any) (float64, bool) {
	switch v := value.(type) {
	case float64:
		return v, true
	case int64:
		return float64(v), true
	case bool:
		if v {
			return 1, true
		}
		return 0, true
	case *big.Int:
		f, _ := new(big.Float).SetInt(v).Float64()
		return f, !math.IsInf(f, 0)
	}
	return 0, false
}

// sign returns the sign of a number, or the blank in its place.
func (f flags) sign(negative bool) string {
	switch {
	case negative:
		return "-"
	case f.plus:
		return "+"
	case f.blank:
		return " "
	}
	return ""
}

func (p *percent) integer(n *big.Int, base int, prefix string, upper bool, f flags) {
	digits := new(big.Int).Abs(n).Append(nil, base)
	if upper {
		for i, c := range digits {
			if c >= 'a' {
				digits[i] = c - 'a' + 'A'
			}
		}
	}
	if fill := f.prec - len(digits); fill > 0 {
		digits = append([]byte(strings.Repeat("0", fill)), digits...)
	}
	head := f.sign(n.Sign() < 0)
	if f.alt {
		head += prefix
	}
	p.number(head, digits, f)
}

// number appends a number. Zeros that pad it follow its head: sign and prefix.
func (p *percent) number(head string, digits []byte, f flags) {
	text := []byte(head)
	if f.zero && !f.left {
		for fill := f.width - len(head) - len(digits); fill > 0; fill-- {
			text = append(text, '0')
		}
	}
	pad(p, append(text, digits...), f)
}

func (p *percent) float(v float64, conversion byte, f flags) {
	prec := f.prec
	if prec < 0 {
		prec = 6
	}
	head := f.sign(math.Signbit(v) && !math.IsNaN(v))
	upper := conversion < 'a'
	if math.IsNaN(v) || math.IsInf(v, 0) {
		text := "inf"
		if math.IsNaN(v) {
			text = "nan"
		}
		if upper {
			text = strings.ToUpper(text)
		}
		p.number(head, []byte(text), f)
		return
	}
	v = math.Abs(v)
	var digits []byte
	switch conversion | 0x20 {
	case 'e':
		digits = strconv.AppendFloat(nil, v, 'e', prec, 64)
		if f.alt && prec == 0 {
			digits = append(append(digits[:1:1], '.'), digits[1:]...)
		}
	case 'f':
		digits = strconv.AppendFloat(nil, v, 'f', prec, 64)
		if f.alt && prec == 0 {
			digits = append(digits, '.')
		}
	case 'g':
		digits = general(v, max(prec, 1), f.alt)
	}
	if upper {
		for i, c := range digits {
			if c == 'e' {
				digits[i] = 'E'
			}
		}
	}
	p.number(head, digits, f)
}

// general formats v >= 0 as %g to prec significant digits: with an exponent that is
// below -4 or at least prec, and without trailing zeros unless alt is set.
func general(v float64, prec int, alt bool) []byte {
	sci := strconv.AppendFloat(nil, v, 'e', prec-1, 64)
	mark := strings.LastIndexByte(string(sci), 'e')
	exp, _ := strconv.Atoi(string(sci[mark+1:]))
	if exp < -4 || exp >= prec {
		mantissa := trimZeros(sci[:mark:mark], alt)
		return append(mantissa, sci[mark:]...)
	}
	return trimZeros(strconv.AppendFloat(nil, v, 'f', prec-1-exp, 64), alt)
}

// trimZeros removes the zeros at the end of a fraction. If keep is set, it keeps them
// and adds a point if there is none.
func trimZeros(digits []byte, keep bool) []byte {
	point := strings.IndexByte(string(digits), '.')
	switch {
	case keep && point < 0:
		return append(digits, '.')
	case keep || point < 0:
		return digits
	}
	end := len(digits)
	for digits[end-1] == '0' {
		end--
	}
	if end-1 == point {
		end = point
	}
	return digits[:end:end]
}
