import { describe, expect, it } from 'vitest';
import { Ring, Timeline } from '../src/ring';

describe('a ring', () => {
  it('keeps the newest values in order and forgets the oldest', () => {
    const ring = new Ring(3);
    for (const value of [1, 2, 3, 4, 5]) ring.push(value);
    expect(ring.toArray()).toEqual([3, 4, 5]);
    expect([ring.length, ring.at(0), ring.at(-1)]).toEqual([3, 3, 5]);
  });

  it('answers NaN outside its values', () => {
    const ring = new Ring(2);
    expect(ring.at(-1)).toBeNaN();
    ring.push(1);
    expect([ring.at(1), ring.at(-2)]).toEqual([Number.NaN, Number.NaN]);
  });

  it('amends its newest value, also when the storage has wrapped', () => {
    const ring = new Ring(2);
    for (const value of [1, 2, 3]) ring.push(value);
    ring.amend(9);
    expect(ring.toArray()).toEqual([2, 9]);
  });

  it('takes an amendment as its first value when it is empty', () => {
    const ring = new Ring(2);
    ring.amend(4);
    expect(ring.toArray()).toEqual([4]);
  });

  it.each([0, -1, 1.5, Number.NaN])('refuses a capacity of %d and says what it takes', (capacity) => {
    expect(() => new Ring(capacity)).toThrow(/at least 1; got/);
  });
});

describe('a timeline', () => {
  const row = (...pairs: [string, number][]): Map<string, number> => new Map(pairs);

  it('gives a series that appears late gaps for the time before it', () => {
    const timeline = new Timeline(10, 8);
    timeline.push(1, row(['p50', 5]));
    timeline.push(2, row(['p50', 6], ['p95', 9]));
    expect(timeline.columns(['p50', 'p95'])).toEqual([[1, 2], [5, 6], [null, 9]]);
  });

  it('gives a series that is missing from a row a gap there', () => {
    const timeline = new Timeline(10, 8);
    timeline.push(1, row(['a', 1], ['b', 2]));
    timeline.push(2, row(['a', 3]));
    expect(timeline.columns(['a', 'b'])).toEqual([[1, 2], [1, 3], [2, null]]);
    expect(timeline.latest('b')).toBeNaN();
  });

  it('shows a long silence as a gap instead of a line across it', () => {
    const timeline = new Timeline(10, 8);
    timeline.push(100, row(['a', 1]), 6);
    timeline.push(160, row(['a', 2]), 6);
    expect(timeline.columns(['a'])).toEqual([[100, 130, 160], [1, null, 2]]);
  });

  it('drops a row that is a little late, so that times always rise', () => {
    const timeline = new Timeline(10, 8);
    timeline.push(10, row(['a', 1]));
    expect(timeline.push(10, row(['a', 2]))).toBe(false);
    expect(timeline.push(8, row(['a', 3]))).toBe(false);
    expect(timeline.columns(['a'])).toEqual([[10], [1]]);
  });

  it('starts anew when the clock of the server was set back', () => {
    const timeline = new Timeline(10, 8);
    timeline.push(1000, row(['a', 1]));
    expect(timeline.push(400, row(['a', 2]))).toBe(true);
    expect(timeline.columns(['a'])).toEqual([[400], [2]]);
  });

  it('stays within its capacity and its number of series', () => {
    const timeline = new Timeline(3, 2);
    for (let time = 1; time <= 50; time += 1) timeline.push(time, row(['a', time], ['b', time], [`s${time}`, time]));
    expect(timeline.keys).toEqual(['a', 'b']);
    expect(timeline.columns(['a'])).toEqual([[48, 49, 50], [48, 49, 50]]);
  });

  it('starts its columns one row before the window, so that the line reaches the edge', () => {
    const timeline = new Timeline(10, 8);
    for (const time of [1, 2, 3, 4]) timeline.push(time, row(['a', time * 10]));
    expect(timeline.columns(['a'], 3)).toEqual([[2, 3, 4], [20, 30, 40]]);
  });
});
