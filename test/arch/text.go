// SPDX-License-Identifier: Apache-2.0

package arch

import (
	"fmt"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// links checks that every relative link in Markdown leads to a file, and to a
// heading where it names one, and that every file of docs that the source
// mentions is there.
func links(t *tree) []finding {
	link := regexp.MustCompile(`\]\(([^)\s]+)[^)]*\)`)
	doc := regexp.MustCompile(`\bdocs/[\w./-]+\.md\b`)
	var found []finding
	for _, f := range t.files {
		if f.ast != nil {
			for i, line := range lines(f.text) {
				for _, name := range doc.FindAllString(line, -1) {
					if within(f.path, "test/arch") || t.paths[name] {
						continue
					}
					found = append(found, at(f, i, "mentions %s, which is not there", name))
				}
			}
		}
		if path.Ext(f.path) != ".md" {
			continue
		}
		for i, line := range prose(f.text) {
			for _, m := range link.FindAllStringSubmatch(line, -1) {
				if what := t.broken(f, m[1]); what != "" {
					found = append(found, at(f, i, "link to %s: %s", m[1], what))
				}
			}
		}
	}
	return found
}

// broken says what is wrong with a link in f; nothing is said of links that
// leave the repository.
func (t *tree) broken(f *file, target string) string {
	u, err := url.Parse(target)
	if err != nil {
		return err.Error()
	}
	if u.Scheme != "" || u.Host != "" {
		return ""
	}
	name := f.path
	if u.Path != "" {
		name = path.Join(f.dir(), u.Path)
	}
	if !t.paths[name] {
		return "there is no such file"
	}
	if u.Fragment == "" || path.Ext(name) != ".md" {
		return ""
	}
	i := slices.IndexFunc(t.files, func(f *file) bool { return f.path == name })
	if i < 0 || !slices.Contains(anchors(t.files[i].text), u.Fragment) {
		return "there is no such heading"
	}
	return ""
}

// anchors returns the fragments under which forges show the headings of a
// Markdown text: lower case, words joined by hyphens, punctuation left out.
func anchors(text string) []string {
	var names []string
	for _, line := range prose(text) {
		heading := strings.TrimLeft(line, "#")
		if heading == line || !strings.HasPrefix(heading, " ") {
			continue
		}
		names = append(names, strings.Map(func(r rune) rune {
			switch {
			case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
				return unicode.ToLower(r)
			case r == ' ':
				return '-'
			}
			return -1
		}, strings.TrimSpace(heading)))
	}
	return names
}

// prose returns the lines of a Markdown text with its code blanked out.
func prose(text string) []string {
	span := regexp.MustCompile("`[^`]*`")
	out := lines(text)
	fenced := false
	for i, line := range out {
		switch {
		case strings.HasPrefix(strings.TrimSpace(line), "```"):
			fenced = !fenced
			out[i] = ""
		case fenced:
			out[i] = ""
		case !strings.HasPrefix(line, "#"): // a heading's code counts in its anchor
			out[i] = span.ReplaceAllString(line, "")
		}
	}
	return out
}

// machinePaths finds what was true on one machine only.
func machinePaths(t *tree) []finding {
	// Homes, and where build services check out. Put together here, so that
	// this file does not find itself.
	tops := []string{"home", "Users", "root", "work", "workspace", "builds"}
	unix := regexp.MustCompile(`(^|[^\w./~-])/(` + strings.Join(tops, "|") + `)/\w`)
	windows := regexp.MustCompile(`\b[A-Z]:\\Users\\`)
	var found []finding
	for _, f := range t.files {
		for i, line := range lines(f.text) {
			if unix.MatchString(line) || windows.MatchString(line) {
				found = append(found, at(f, i, "names a path of somebody's machine: %s", strings.TrimSpace(line)))
			}
		}
	}
	return found
}

// dependencies checks that CONTRIBUTING.md gives a reason for each module that
// go.mod requires directly, and for none that it does not have.
func dependencies(t *tree) []finding {
	var mod string
	var required, explained []string
	for _, f := range t.files {
		switch f.path {
		case "go.mod":
			mod, required = f.text, requirements(f.text)
		case "CONTRIBUTING.md":
			explained = reasons(f.text)
		}
	}
	var found []finding
	for _, m := range required {
		if !slices.Contains(explained, m) {
			found = append(found, finding{"CONTRIBUTING.md", fmt.Sprintf("has no line \"- `%s`: why\", and go.mod requires it", m)})
		}
	}
	for _, m := range explained {
		if !strings.Contains(mod, m+" v") {
			found = append(found, finding{"CONTRIBUTING.md", fmt.Sprintf("explains %s, which go.mod does not have", m)})
		}
	}
	return found
}

// requirements returns the modules that a go.mod file requires directly.
func requirements(mod string) []string {
	require := regexp.MustCompile(`^(?:require )?\s*([a-z][\w.-]*\.[\w./-]+) v\S+$`)
	var modules []string
	for _, line := range lines(mod) {
		if m := require.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
			modules = append(modules, m[1])
		}
	}
	return modules
}

// reasons returns the modules with a line of their own: "- `module`: why".
func reasons(text string) []string {
	reason := regexp.MustCompile("^- `([a-z][\\w.-]*\\.[\\w.-]+/[\\w./-]+)`: \\S")
	var modules []string
	for _, line := range lines(text) {
		if m := reason.FindStringSubmatch(line); m != nil {
			modules = append(modules, m[1])
		}
	}
	return modules
}

// lines returns the lines of a text without their ends.
func lines(text string) []string { return strings.Split(strings.TrimSuffix(text, "\n"), "\n") }

// at makes a finding in line i, from 0, of a file that is not Go.
func at(f *file, i int, format string, args ...any) finding {
	return finding{fmt.Sprintf("%s:%d", f.path, i+1), fmt.Sprintf(format, args...)}
}
