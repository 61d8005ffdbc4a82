package event

import "math"

// Finite returns v with nil for numbers that JSON does not have,
// so that every JSON reader accepts it: v is a value of the event model. It copies
// lists and dicts.
func Finite(v any) any {
	switch v := v.(type) {
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil
		}
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = Finite(v[i])
		}
		return out
	case Tuple:
		return Finite([]any(v))
	case Dict:
		d := make(Dict, len(v))
		for i := range v {
			d[i] = Item{Key: v[i].Key, Value: Finite(v[i].Value)}
		}
		return d
	}
	return v
}
