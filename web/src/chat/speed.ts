// The live speed of one stream: tokens of the last second, sampled four times a second for the sparkline.
import {signal} from '@preact/signals';

export interface Speed {
  now: number;         // tokens per second
  samples: number[];   // the last kSamples of it, oldest first
}

const kSamples = 40;
const kSampleMs = 250;
const kWindowMs = 1000;

export const speed = signal<Speed | null>(null);  // null: nothing streams in the conversation on screen

export class SpeedMeter {
  private arrivals: [time: number, tokens: number][] = [];
  private samples: number[] = [];
  private nextSample = 0;
  private started = 0;
  current: Speed = {now: 0, samples: []};

  // Returns true when a new sample was taken.
  add(time: number, tokens: number): boolean {
    if (this.started === 0) {
      this.started = time;
      this.nextSample = time + kSampleMs;
    }
    this.arrivals.push([time, tokens]);
    if (time < this.nextSample) return false;
    while (this.arrivals.length > 0 && this.arrivals[0]![0] <= time - kWindowMs) this.arrivals.shift();
    const span = Math.min(kWindowMs, time - this.started);
    const count = this.arrivals.reduce((sum, [, tokens]) => sum + tokens, 0);
    this.samples.push(span > 0 ? count * 1000 / span : 0);
    if (this.samples.length > kSamples) this.samples.shift();
    this.nextSample = time + kSampleMs;
    this.current = {now: this.samples[this.samples.length - 1]!, samples: this.samples.slice()};
    return true;
  }
}
