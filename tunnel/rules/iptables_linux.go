// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/google/nftables"
)

// lockWait is how many seconds iptables waits for others that change rules.
const lockWait = "5"

// program is the one for the plan's family.
func (p Plan) program() string {
	if p.isIPv6() {
		return "ip6tables"
	}
	return "iptables"
}

// applyIPTables makes the chains be as p says, each table in one transaction,
// and returns what was not.
func applyIPTables(ctx context.Context, p Plan) (changed []string, err error) {
	for _, c := range p.chains() {
		differs, err := arrangeIPTables(ctx, p, c)
		if err != nil {
			return changed, err
		}
		if differs {
			changed = append(changed, c.what)
		}
	}
	return changed, nil
}

func arrangeIPTables(ctx context.Context, p Plan, c chain) (differs bool, err error) {
	program := p.program()
	if len(c.rules) == 0 && !hasTable(program, c.table) {
		return false, nil
	}
	have, there, err := listIPTables(ctx, program, c.table, c.name)
	if err != nil {
		return false, err
	}
	if !there && len(c.rules) == 0 {
		return false, nil
	}
	parent, _, err := listIPTables(ctx, program, c.table, c.parent)
	if err != nil {
		return false, err
	}
	var want []string
	for _, r := range c.rules {
		want = append(want, r.iptables(c))
	}
	a := arrange(have, want, rule{marked: true, target: giveBack}.iptables(c), p.concernsIPTables)
	jumps := slices.ContainsFunc(parent, c.isJump)
	if a.holds && (len(want) == 0 || jumps) {
		return false, nil
	}
	if len(a.next) == 0 {
		return true, restoreIPTables(ctx, program, c.table, c.removal(parent))
	}
	// Naming the chain makes it or empties it; others' rules come again with
	// ours. The jump stands at the end, where flannel has it.
	lines := append([]string{":" + c.name + " - [0:0]"}, a.next...)
	if !jumps && len(want) > 0 {
		lines = append(lines, c.jump())
	}
	return true, restoreIPTables(ctx, program, c.table, lines)
}

func (c chain) jump() string {
	return fmt.Sprintf("-A %s -m comment --comment %q -j %s", c.parent, c.comment, c.name)
}

func (c chain) isJump(line string) bool { return strings.HasSuffix(line, "-j "+c.name) }

// removal returns what takes the chain away, and all jumps of parent to it.
func (c chain) removal(parent []string) []string {
	var lines []string
	for _, l := range parent {
		if c.isJump(l) {
			lines = append(lines, strings.Replace(l, "-A ", "-D ", 1))
		}
	}
	return append(lines, "-F "+c.name, "-X "+c.name)
}

// iptables is the rule as iptables -S prints it.
func (r rule) iptables(c chain) string {
	var b strings.Builder
	b.WriteString("-A " + c.name)
	for _, s := range []struct {
		flag string
		side
	}{{"-s", r.src}, {"-d", r.dst}} {
		if !s.prefix.IsValid() {
			continue
		}
		if s.not {
			b.WriteString(" !")
		}
		fmt.Fprintf(&b, " %s %s", s.flag, s.prefix)
	}
	if r.device != "" {
		b.WriteString(" -i " + r.device)
	}
	if r.marked {
		fmt.Fprintf(&b, " -m mark --mark %#x/%#x", kubeMark, kubeMark)
	}
	fmt.Fprintf(&b, " -m comment --comment %q -j ", c.comment)
	switch r.target {
	case accept:
		b.WriteString("ACCEPT")
	case giveBack:
		b.WriteString("RETURN")
	case masquerade:
		b.WriteString("MASQUERADE")
	case masqueradeRandom:
		b.WriteString("MASQUERADE --random-fully")
	}
	return b.String()
}

// concernsIPTables reports whether the rule names one of our networks, our
// uplink, or one that is gone.
func (p Plan) concernsIPTables(line string) bool {
	if p.Uplink != "" && strings.Contains(line, " -i "+p.Uplink+" ") {
		return true
	}
	return p.leftIPTables(line) || slices.ContainsFunc(p.networks(), func(n netip.Prefix) bool {
		return strings.Contains(line, fmt.Sprintf(" -s %s ", n)) || strings.Contains(line, fmt.Sprintf(" -d %s ", n))
	})
}

// removeIPTables deletes flannel's chains of both families, whoever made them. A
// host without the program has none.
func removeIPTables(ctx context.Context) (removed []string, err error) {
	for _, p := range families() {
		program := p.program()
		if !hasProgram(program) {
			continue
		}
		for _, c := range p.chains() {
			if !hasTable(program, c.table) {
				continue
			}
			_, there, err := listIPTables(ctx, program, c.table, c.name)
			if err != nil {
				return removed, err
			}
			if !there {
				continue
			}
			parent, _, err := listIPTables(ctx, program, c.table, c.parent)
			if err != nil {
				return removed, err
			}
			if err := restoreIPTables(ctx, program, c.table, c.removal(parent)); err != nil {
				return removed, err
			}
			removed = append(removed, fmt.Sprintf("%s chain %s of table %s", program, c.name, c.table))
		}
	}
	return removed, nil
}

// hasTable reports whether there may be such a table. To ask the older iptables
// makes it, and with it every packet of the host is tracked or filtered.
func hasTable(program, table string) bool {
	older, newer := "/proc/thread-self/net/ip_tables_names", nftables.TableFamilyIPv4
	if program == "ip6tables" {
		older, newer = "/proc/thread-self/net/ip6_tables_names", nftables.TableFamilyIPv6
	}
	if names, err := os.ReadFile(older); err == nil && slices.Contains(strings.Fields(string(names)), table) {
		return true
	}
	conn, err := nftables.New()
	if err != nil {
		return true
	}
	tables, err := conn.ListTablesOfFamily(newer)
	if err != nil {
		return false // a kernel without nftables
	}
	return slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == table })
}

func hasProgram(name string) bool {
	_, err := exec.LookPath(name)
	_, restore := exec.LookPath(name + "-restore")
	return err == nil && restore == nil
}

// listIPTables returns the rules of a chain, as iptables -S prints them; there
// is false where there is no such chain, for which iptables has a number of
// words and the exit status 1; 2 to 4 are for all else.
func listIPTables(ctx context.Context, program, table, name string) (rules []string, there bool, err error) {
	printed, err := runProgram(ctx, nil, program, "-w", lockWait, "-t", table, "-S", name)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == 1 {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	for l := range strings.Lines(printed) {
		if l = strings.TrimSpace(l); strings.HasPrefix(l, "-A ") {
			rules = append(rules, l)
		}
	}
	return rules, true, nil
}

// restoreIPTables does all lines or none.
func restoreIPTables(ctx context.Context, program, table string, lines []string) error {
	input := "*" + table + "\n" + strings.Join(lines, "\n") + "\nCOMMIT\n"
	_, err := runProgram(ctx, []byte(input), program+"-restore", "-w", lockWait, "--noflush")
	return err
}

func runProgram(ctx context.Context, input []byte, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = bytes.NewReader(input)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", name, err, firstLine(stderr.String()))
	}
	return stdout.String(), nil
}

// isRandomVersion reads "iptables v1.8.9 (nf_tables)", or that of ip6tables. What cannot be read is
// newer than what we know.
func isRandomVersion(printed string) bool {
	var v [3]int
	_, version, _ := strings.Cut(printed, " v")
	if _, err := fmt.Sscanf(version, "%d.%d.%d", &v[0], &v[1], &v[2]); err != nil {
		return true
	}
	return slices.Compare(v[:], []int{1, 6, 2}) >= 0
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	return s
}
