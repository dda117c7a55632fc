// SPDX-License-Identifier: Apache-2.0

package tunnel

import "testing"

// looksOf runs p through n gaps that are longer than any patience, and returns
// how many looks in vain each cost.
func looksOf(p *patience, n int) (looks []int) {
	for range n {
		p.found()
		count := 0
		for p.more() {
			count++
		}
		looks = append(looks, count)
	}
	return looks
}

// A flow whose gaps are always too long costs little in the long run: the
// retries, and nothing between them.
func TestPatienceEndsWhenItDoesNotPay(t *testing.T) {
	var p patience
	p.limit = fullPatience
	sum := 0
	for _, n := range looksOf(&p, 10*retryPatience) {
		if n > fullPatience {
			t.Errorf("%d looks in a row, want at most %d", n, fullPatience)
		}
		sum += n
	}
	if most := 11 * 2 * fullPatience; sum > most {
		t.Errorf("%d looks in vain for %d gaps, want at most %d", sum, 10*retryPatience, most)
	}
}

// A flow whose answers come within a few looks keeps the full measure for ever.
func TestPatienceStaysWhileItPays(t *testing.T) {
	p := patience{limit: fullPatience}
	for range 1000 {
		p.found()
		for range fullPatience / 2 {
			if !p.more() {
				t.Fatal("slept although looking had always paid")
			}
		}
	}
}

// Patience that was lost comes back when gaps become short.
func TestPatienceReturns(t *testing.T) {
	var p patience
	looksOf(&p, 100)
	for range retryPatience + 1 {
		p.found()
		n := 0
		for ; n < 3 && p.more(); n++ {
		}
		if n == 3 && p.limit == fullPatience {
			return
		}
	}
	t.Errorf("limit %d after %d short gaps, want %d", p.limit, retryPatience+1, fullPatience)
}

// An idle lane sleeps: it never looks again before it has found something.
func TestPatienceOfAnIdleLane(t *testing.T) {
	p := patience{limit: fullPatience}
	for range 200 { // wake-ups without a frame
		for p.more() {
		}
	}
	if p.limit > fullPatience {
		t.Errorf("limit %d", p.limit)
	}
}
