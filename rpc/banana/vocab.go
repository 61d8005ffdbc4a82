package banana

// words is vocabulary table 1, with which both sides of a connection start and
// which they never change. Table 0 is empty. Spec: foolscap-wire.md section 3.7.
var words = [...]string{
	"none", "boolean", "reference", "dict", "list", "tuple", "set", "immutable-set",
	"unicode", "set-vocab", "add-vocab", "call", "arguments", "answer", "error",
	"my-reference", "your-reference", "their-reference", "copyable",
	"instance", "module", "class", "method", "function", "attrdict",
}

// wordBytes are the words as bodies of tokens. They must not be changed.
var wordBytes = func() (b [len(words)][]byte) {
	for i, w := range words {
		b[i] = []byte(w)
	}
	return b
}()

// Words returns the words of vocabulary table 0 or 1. The caller must not change
// them.
func Words(table int) []string {
	if table == 0 {
		return nil
	}
	return words[:]
}

// wordIndex returns the index of a word in table 1, or -1.
func wordIndex[T string | []byte](b T) int {
	if len(b) < 3 || len(b) > 15 {
		return -1
	}
	switch string(b) {
	case "none":
		return 0
	case "boolean":
		return 1
	case "reference":
		return 2
	case "dict":
		return 3
	case "list":
		return 4
	case "tuple":
		return 5
	case "set":
		return 6
	case "immutable-set":
		return 7
	case "unicode":
		return 8
	case "set-vocab":
		return 9
	case "add-vocab":
		return 10
	case "call":
		return 11
	case "arguments":
		return 12
	case "answer":
		return 13
	case "error":
		return 14
	case "my-reference":
		return 15
	case "your-reference":
		return 16
	case "their-reference":
		return 17
	case "copyable":
		return 18
	case "instance":
		return 19
	case "module":
		return 20
	case "class":
		return 21
	case "method":
		return 22
	case "function":
		return 23
	case "attrdict":
		return 24
	}
	return -1
}

// Kind says which sequence an OPEN begins: the index of its name in vocabulary
// table 1, or KindDecimal or KindUnknown, whose names are not in it.
type Kind int

// The kinds of sequences.
const (
	KindNone Kind = iota
	KindBoolean
	KindReference
	KindDict
	KindList
	KindTuple
	KindSet
	KindFrozenSet
	KindUnicode
	kindSetVocab
	kindAddVocab
	KindCall
	KindArguments
	KindAnswer
	KindError
	KindMyReference
	KindYourReference
	KindTheirReference
	KindCopyable

	KindDecimal Kind = 100 // its name is always a STRING
	KindUnknown Kind = -1
)

// String returns the name that stands on the wire.
func (k Kind) String() string {
	switch {
	case k == KindDecimal:
		return "decimal"
	case k >= 0 && int(k) < len(words):
		return words[k]
	}
	return "unknown"
}

// kindOf returns the kind that an index token names.
func kindOf(t *Token) Kind {
	if t.Type == TokenVocab {
		return Kind(t.Num) // Next has checked that it is in the table
	}
	if string(t.Body) == "decimal" {
		return KindDecimal
	}
	return Kind(wordIndex(t.Body))
}
