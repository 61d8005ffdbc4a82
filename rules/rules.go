// Package rules holds the rules that ship with flogtool, as files that people
// may copy and change, each with its cases beside it.
package rules

import "embed"

// Files are classify_NAME.expr and classify_NAME.cases.jsonl.
//
//go:embed classify_*
var Files embed.FS
