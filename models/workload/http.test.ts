import { describe, expect, test } from 'vitest';
import { httpRequest, splitUrl, withAddedHeader } from './http.ts';

test('a URL is taken apart', () => {
  expect(splitUrl('http://shop.example.com/cart?item=7&gift')).toEqual({
    ...{ host: 'shop.example.com', port: 80, path: '/cart', query: { item: '7', gift: '' } },
  });
  expect(splitUrl('https://[2001:db8::1]')).toEqual({ host: '2001:db8::1', port: 443, path: '/', query: {} });
  expect(splitUrl('http://192.0.2.1:8080#top')).toEqual({ host: '192.0.2.1', port: 8080, path: '/', query: {} });
});

test.each(['shop.example.com', 'ftp://shop.example.com/', 'http://', 'http://a:b/'])('%s is no URL', (text) => {
  expect(() => splitUrl(text)).toThrow(`"${text}": expected a URL such as http://shop.example.com/cart`);
});

describe('a request', () => {
  test('has its host from the URL, unless a Host header says otherwise, without the port', () => {
    expect(httpRequest('http://192.0.2.1:8080/').host).toBe('192.0.2.1');
    expect(httpRequest('http://192.0.2.1/', { headers: { Host: 'Shop.Example.com:80' } }).host).toBe(
      'shop.example.com',
    );
  });

  test('has its headers by name in lower case', () => {
    expect(httpRequest('http://a/', { headers: { 'X-Version': 'Two' } }).headers).toEqual({ 'x-version': 'Two' });
  });
});

test('a further value of a header stands behind a comma', () => {
  expect(withAddedHeader(withAddedHeader({}, 'via', 'a'), 'via', 'b')).toEqual({ via: 'a, b' });
});
