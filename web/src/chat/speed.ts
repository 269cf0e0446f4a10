// The live speed of one stream: tokens of the last second, sampled four times a second for the sparkline.
import {signal} from '@preact/signals';

export interface Speed {
  now: number;         // tokens per second
  samples: number[];   // the last kSamples of it, oldest first
}

const kSamples = 40;
const kWindowMs = 1000;
export const kSampleMs = 250;

export const speed = signal<Speed | null>(null);  // null: nothing streams in the conversation on screen

export class SpeedMeter {
  private arrivals: [time: number, tokens: number][] = [];
  private samples: number[] = [];
  private started: number | null = null;

  add(time: number, tokens: number): void {
    this.started ??= time;
    this.arrivals.push([time, tokens]);
  }

  // Called by a clock, not by arrivals: a stream that stalls must show it. Null before the first token.
  sample(time: number): Speed | null {
    if (this.started === null || time <= this.started) return null;
    while (this.arrivals.length > 0 && this.arrivals[0]![0] <= time - kWindowMs) this.arrivals.shift();
    const count = this.arrivals.reduce((sum, [, tokens]) => sum + tokens, 0);
    this.samples.push(count * 1000 / Math.min(kWindowMs, time - this.started));
    if (this.samples.length > kSamples) this.samples.shift();
    return {now: this.samples.at(-1)!, samples: this.samples.slice()};
  }
}
