// Package rules holds the rules that ship with flogtool, for package classify: files
// that users can copy and change, each with its cases beside it.
package rules

import "embed"

// Files holds classify_NAME.expr and classify_NAME.cases.jsonl for each rule, in its root.
//
//go:embed classify_*
var Files embed.FS
