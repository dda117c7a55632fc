// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf16"
)

// writeSafeJSON writes v so that a terminal can show it: what it might obey,
// which encoding/json leaves as it is above U+001F, becomes an escape. To a
// program it is the same.
func writeSafeJSON(w io.Writer, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, escapeJSON(string(b))+"\n")
	return err
}

// escapeJSON escapes what is not printable. In JSON that can only stand inside a
// string, but for the line feeds between fields.
func escapeJSON(s string) string {
	var b strings.Builder
	for _, c := range s {
		switch {
		case c == '\n' || strconv.IsPrint(c):
			b.WriteRune(c)
		case c > 0xffff:
			high, low := utf16.EncodeRune(c)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, c)
		}
	}
	return b.String()
}
